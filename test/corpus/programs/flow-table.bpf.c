/* A table of flows with histograms inside the values (variable offsets), eviction, and spilled pointers. */
#include "corpus.h"

struct key {
	union {
		__be32 v4;
		struct in6_addr v6;
	} source, destination;
	__be16 ports[2];
	__u8 protocol;
	__u8 family;
	__u16 zone;
};

struct value {
	__u64 packets, bytes;
	__u32 sizes[16];
	__u8 flags;
	__u8 state;
	__u16 gaps[8];
	__u32 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key);
	__type(value, struct value);
	__uint(max_entries, 12);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u16);
	__type(value, __u64[3]);
	__uint(max_entries, 64);
} ports SEC(".maps");

__u32 now, full, evicted;
static struct key last_key;
enum { NEW, OPEN, CLOSED };

static NOINLINE int parse(struct xdp_md *ctx, struct key *key, __u8 *flags)
{
	struct cursor cursor = cursor_of(ctx);
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	if (!eth) return -1;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = take(&cursor, sizeof(*ip));
		if (!ip) return -1;
		key->family = 4;
		key->source.v4 = ip->saddr;
		key->destination.v4 = ip->daddr;
		key->protocol = ip->protocol;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = take(&cursor, sizeof(*ip));
		if (!ip) return -1;
		key->family = 6;
		key->source.v6 = ip->saddr;
		key->destination.v6 = ip->daddr;
		key->protocol = ip->nexthdr;
	} else {
		return 1;
	}
	if (key->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = take(&cursor, sizeof(*tcp));
		if (!tcp) return -1;
		key->ports[0] = tcp->source;
		key->ports[1] = tcp->dest;
		*flags = tcp->fin | tcp->syn << 1 | tcp->rst << 2 | tcp->ack << 4;
	} else if (key->protocol == IPPROTO_UDP) {
		struct udphdr *udp = take(&cursor, sizeof(*udp));
		if (!udp) return -1;
		key->ports[0] = udp->source;
		key->ports[1] = udp->dest;
	}
	return 0;
}

SEC("xdp")
int flow_table(struct xdp_md *ctx)
{
	struct key key = {};
	struct value fresh = {}, *value;
	__u8 flags = 0;
	__u32 size = ctx->data_end - ctx->data;
	int result = parse(ctx, &key, &flags);

	now++;
	if (result < 0) return XDP_DROP;
	if (result > 0) return XDP_PASS;
	value = bpf_map_lookup_elem(&flows, &key);
	if (!value) {
		if (bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST)) {
			full++;
			if (bpf_map_delete_elem(&flows, &last_key) == 0) evicted++;
			if (bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST)) return XDP_ABORTED;
		}
		value = bpf_map_lookup_elem(&flows, &key);
		if (!value) return XDP_ABORTED;
		value->last = now;
	}
	last_key = key;

	__u16 port = bpf_ntohs(key.ports[1]);
	__u64 zeros[3] = {};
	__u64(*counts)[3] = bpf_map_lookup_elem(&ports, &port);
	if (!counts) {
		bpf_map_update_elem(&ports, &port, zeros, BPF_ANY);
		counts = bpf_map_lookup_elem(&ports, &port);
	}
	value->packets++;
	value->bytes += size;
	value->sizes[(size >> 5) & 15]++;
	__u32 gap = now - value->last;
	if (gap > 4) gap = 4;
	asm volatile("" : "+r"(gap));
	value->gaps[gap & 7]++;
	value->last = now;
	value->flags |= flags;
	if (flags & 2) value->state = OPEN;
	if (flags & 5) value->state = CLOSED;
	if (counts) {
		(*counts)[0]++;
		(*counts)[1] += size;
		(*counts)[2] += value->packets;
	}
	if (value->state == CLOSED && value->packets > 2) {
		bpf_map_delete_elem(&flows, &key);
		return XDP_TX;
	}
	return XDP_PASS;
}

LICENSE;
