/* Tail calls of each kind: constant and variable index, from subprograms, from one of two arrays, empty slots. */
#include "corpus.h"

enum { PARSE_IP, PARSE_IP6, LEAF_TCP, LEAF_UDP, LOOP, EMPTY, FROM_SUB, SLOTS = 8 };

int parse_ip(struct xdp_md *);
int parse_ip6(struct xdp_md *);
int leaf_tcp(struct xdp_md *);
int leaf_udp(struct xdp_md *);
int loop(struct xdp_md *);
int from_sub(struct xdp_md *);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(max_entries, SLOTS);
	__array(values, int(struct xdp_md *));
} stages SEC(".maps") = {
	.values = {
		[PARSE_IP] = &parse_ip, [PARSE_IP6] = &parse_ip6, [LEAF_TCP] = &leaf_tcp,
		[LEAF_UDP] = &leaf_udp, [LOOP] = &loop, [FROM_SUB] = &from_sub,
	},
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(max_entries, 3);
	__array(values, int(struct xdp_md *));
} alternative SEC(".maps") = { .values = { [2] = &leaf_udp } };

__u64 runs[SLOTS];
__u64 missed;
volatile __u32 hops;

SEC("xdp")
int parse_ip(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + ETH_HLEN;
	runs[PARSE_IP]++;
	if ((void *)(ip + 1) > end) return XDP_DROP;
	__u32 stage = ip->protocol == IPPROTO_TCP ? LEAF_TCP : ip->protocol == IPPROTO_UDP ? LEAF_UDP : ip->protocol;
	if (stage == IPPROTO_ICMP) stage = LOOP;
	bpf_tail_call(ctx, &stages, stage);
	missed++;
	return XDP_PASS;
}

SEC("xdp")
int parse_ip6(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ipv6hdr *ip = data + ETH_HLEN;
	runs[PARSE_IP6]++;
	if ((void *)(ip + 1) > end) return XDP_DROP;
	void *array = ip->hop_limit & 1 ? (void *)&stages : (void *)&alternative;
	bpf_tail_call(ctx, array, ip->hop_limit % 4);
	missed++;
	return XDP_TX;
}

SEC("xdp")
int leaf_tcp(struct xdp_md *ctx)
{
	runs[LEAF_TCP]++;
	bpf_tail_call(ctx, &stages, EMPTY);
	missed++;
	bpf_tail_call(ctx, &stages, FROM_SUB);
	return XDP_ABORTED;
}

SEC("xdp")
int leaf_udp(struct xdp_md *ctx)
{
	runs[LEAF_UDP]++;
	return XDP_TX;
}

SEC("xdp")
int loop(struct xdp_md *ctx)
{
	runs[LOOP]++;
	hops++;
	bpf_tail_call(ctx, &stages, LOOP);
	missed++;
	return XDP_DROP;
}

static NOINLINE int sub(struct xdp_md *ctx, __u32 index)
{
	volatile __u64 kept = index + 40;
	bpf_tail_call(ctx, &stages, index);
	missed += kept;
	return 77;
}

SEC("xdp")
int from_sub(struct xdp_md *ctx)
{
	__u64 length = ctx->data_end - ctx->data;
	runs[FROM_SUB]++;
	int first = sub(ctx, EMPTY);
	int second = sub(ctx, LEAF_UDP);
	int third = sub(ctx, LOOP);
	int fourth = sub(ctx, LEAF_UDP);
	runs[7] += length + first * 1000 + second * 100 + third * 10 + fourth;
	return fourth == 77 ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int dispatcher(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end) return XDP_ABORTED;
	hops = 0;
	switch (bpf_ntohs(eth->h_proto)) {
	case ETH_P_IP:
		bpf_tail_call(ctx, &stages, PARSE_IP);
		break;
	case ETH_P_IPV6:
		bpf_tail_call(ctx, &stages, PARSE_IP6);
		break;
	default:
		bpf_tail_call(ctx, &stages, eth->h_dest[5]);
	}
	missed++;
	return XDP_PASS;
}

LICENSE;
