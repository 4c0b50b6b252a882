/* Reads TCP options one after the other and clamps the MSS, with the checksum corrected. */
#include "corpus.h"

#define MAX_OPTIONS 5

const volatile __u16 mss_limit = 1360;

struct parsed {
	__u16 mss;
	__u8 window_scale;
	__u8 sack : 1;
	__u8 timestamps : 1;
	__u8 fast_open : 1;
	__u8 malformed : 1;
	__u8 options : 4;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32);
	__type(value, struct parsed);
	__uint(max_entries, 64);
} handshakes SEC(".maps");

__u64 clamped, seen;

static NOINLINE int parse_options(struct xdp_md *ctx, __u32 offset, __u32 length, struct parsed *parsed)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	__u32 at = 0, mss_at = 0;

	for (int i = 0; i < MAX_OPTIONS; i++) {
		__u8 *option;
		__u32 where = offset + at;
		if (at >= length || where > 200) break;
		option = data + where;
		if ((void *)(option + 4) > end) break;
		__u8 kind = option[0];
		if (kind == 0) break;
		parsed->options++;
		if (kind == 1) {
			at++;
			continue;
		}
		__u8 size = option[1];
		if (size < 2) {
			parsed->malformed = 1;
			break;
		}
		switch (kind) {
		case 2:
			parsed->mss = option[2] << 8 | option[3];
			mss_at = where + 2;
			break;
		case 3:
			parsed->window_scale = option[2];
			break;
		case 4:
			parsed->sack = 1;
			break;
		case 8:
			parsed->timestamps = 1;
			break;
		case 34:
			parsed->fast_open = 1;
			break;
		}
		at += size;
	}
	return mss_at;
}

SEC("xdp")
int tcp_options(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct tcphdr *tcp;
	struct parsed parsed = {};
	__u32 ip_length;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_TCP) return XDP_PASS;
	ip_length = ip->ihl * 4;
	if (ip_length < sizeof(*ip)) return XDP_DROP;
	tcp = (void *)ip + ip_length;
	if ((void *)(tcp + 1) > end) return XDP_DROP;
	if (!tcp->syn) return XDP_PASS;
	seen++;

	__u32 header = tcp->doff * 4;
	if (header < sizeof(*tcp)) return XDP_DROP;
	__u32 first = sizeof(*eth) + ip_length + sizeof(*tcp);
	__u32 mss_at = parse_options(ctx, first, header - sizeof(*tcp), &parsed);
	bpf_map_update_elem(&handshakes, &ip->saddr, &parsed, BPF_ANY);
	if (parsed.mss <= mss_limit || mss_at > 200) return XDP_PASS;

	__be16 *mss = data + mss_at;
	if ((void *)(mss + 1) > end) return XDP_DROP;
	__be16 limit = bpf_htons(mss_limit);
	/* RFC 1624; an odd place swaps the bytes of the sum. */
	__u32 sum = (__u16)~tcp->check;
	if (mss_at & 1) {
		sum += (__u16)~bpf_ntohs(*mss) + mss_limit;
	} else {
		sum += (__u16)~*mss + limit;
	}
	*mss = limit;
	tcp->check = fold(sum);
	clamped++;
	return XDP_TX;
}

LICENSE;
