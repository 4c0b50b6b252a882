/* Small xdp programs, each around one thing that verifiers find hard: bounds that come from another register, loops, tables, copies. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u8[64]);
	__uint(max_entries, 4);
} bytes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u16);
	__type(value, __u64);
	__uint(max_entries, 64);
} seen SEC(".maps");

static __u8 table[64];
static __u32 order[16];

static __always_inline __u8 *slot(__u32 key) { return bpf_map_lookup_elem(&bytes, &key); }

/* The index and its successor are both bounded by one comparison. */
SEC("xdp")
int neighbours(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx), *value = slot(0);
	if (!value || (void *)(data + 14) > end_of(ctx)) return XDP_DROP;
	__u32 at = data[0], next = at + 1;
	if (at >= 63) return XDP_PASS;
	value[at] += 1;
	value[next] ^= value[at];
	return value[next] & 1 ? XDP_PASS : XDP_TX;
}

/* A length from the packet, checked, then read byte by byte. */
SEC("xdp")
int length_prefixed(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx), *end = end_of(ctx);
	__u32 sum = 0;
	if (data + 1 > end) return XDP_DROP;
	__u32 length = data[0] & 31;
	if (data + 1 + length > end) return XDP_PASS;
	for (__u32 i = 0; i < 32; i++) {
		__u8 *at = data + 1 + i;
		asm volatile("" : "+r"(at));
		if (i >= length || at + 1 > end) break;
		sum = sum * 31 + *at;
	}
	table[sum & 63]++;
	return sum & 1 ? XDP_TX : XDP_PASS;
}

/* Signed offsets around the middle of a table. */
SEC("xdp")
int around_the_middle(struct xdp_md *ctx)
{
	__s8 *data = data_of(ctx);
	if ((void *)(data + 2) > end_of(ctx)) return XDP_DROP;
	__s32 offset = data[1];
	if (offset < -32 || offset > 31) return XDP_PASS;
	__u32 at = 32 + offset;
	asm volatile("" : "+r"(at));
	table[at & 63] += 3;
	return offset < 0 ? XDP_TX : XDP_PASS;
}

/* Insertion into a sorted array of fixed size. */
SEC("xdp")
int sorted(struct xdp_md *ctx)
{
	__u32 *data = data_of(ctx);
	if ((void *)(data + 1) > end_of(ctx)) return XDP_DROP;
	__u32 value = *data;
	for (int i = 0; i < 16; i++) {
		if (order[i] >= value) continue;
		__u32 other = order[i];
		order[i] = value;
		value = other;
	}
	return order[15] ? XDP_PASS : XDP_TX;
}

/* Counts by EtherType; a new key is made once. */
SEC("xdp")
int by_type(struct xdp_md *ctx)
{
	struct ethhdr *eth = data_of(ctx);
	if ((void *)(eth + 1) > end_of(ctx)) return XDP_DROP;
	__u16 key = eth->h_proto;
	__u64 one = 1, *count = bpf_map_lookup_elem(&seen, &key);
	if (count) __sync_fetch_and_add(count, 1);
	else bpf_map_update_elem(&seen, &key, &one, BPF_NOEXIST);
	return count && *count > 8 ? XDP_TX : XDP_PASS;
}

/* The frame's end moves down to a length that the frame tells. */
SEC("xdp")
int trim(struct xdp_md *ctx)
{
	struct ethhdr *eth = data_of(ctx);
	struct iphdr *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end_of(ctx) || eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
	__u32 wanted = sizeof(*eth) + bpf_ntohs(ip->tot_len), now = end_of(ctx) - data_of(ctx);
	if (wanted < sizeof(*eth) + sizeof(*ip) || wanted >= now) return XDP_PASS;
	if (bpf_xdp_adjust_tail(ctx, (int)wanted - (int)now)) return XDP_ABORTED;
	__u8 *data = data_of(ctx);
	if ((void *)(data + 1) > end_of(ctx)) return XDP_DROP;
	data[0] ^= 0xff;
	return XDP_TX;
}

/* A header is put in front, and written over before the pointers are gone. */
SEC("xdp")
int encapsulate(struct xdp_md *ctx)
{
	struct ethhdr *eth = data_of(ctx), copy;
	if ((void *)(eth + 1) > end_of(ctx)) return XDP_DROP;
	__builtin_memcpy(&copy, eth, sizeof(copy));
	if (bpf_xdp_adjust_head(ctx, -8)) return XDP_ABORTED;
	eth = data_of(ctx);
	if ((void *)eth + sizeof(*eth) + 8 > end_of(ctx)) return XDP_DROP;
	__builtin_memcpy(eth, &copy, sizeof(copy));
	*(__u64 *)(eth + 1) = 0x0102030405060708ull;
	return XDP_TX;
}

LICENSE;
