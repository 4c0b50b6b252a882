/* Answers echo requests in place, and packets that are too long with an ICMP error that quotes them. */
#include "corpus.h"

#define QUOTE 28
#define GROWTH (sizeof(struct iphdr) + sizeof(struct icmphdr))

const volatile __u32 mtu = 200;
__u64 replies, errors;

static __always_inline __u16 checksum(void *start, __u32 size, __u32 seed)
{
	return fold(bpf_csum_diff(0, 0, start, size, seed));
}

static NOINLINE int echo_reply(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_of(ctx);
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	struct iphdr *ip = eth ? take(&cursor, sizeof(*ip)) : 0;
	struct icmphdr *icmp = ip ? take(&cursor, sizeof(*icmp)) : 0;
	__be32 address;

	if (!icmp || icmp->type != ICMP_ECHO || icmp->code) return XDP_PASS;
	address = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = address;
	icmp->type = ICMP_ECHOREPLY;
	icmp->checksum = fold((__u64)(__u16)~icmp->checksum + 0xffff - bpf_htons(ICMP_ECHO << 8));
	replies++;
	return XDP_TX;
}

static NOINLINE int too_big(struct xdp_md *ctx)
{
	struct ethhdr *eth;
	struct iphdr *ip, *quoted;
	struct icmphdr *icmp;
	void *data, *end;
	int excess = (int)(ctx->data_end - ctx->data) - (int)sizeof(*eth) - QUOTE;

	if (excess <= 0 || bpf_xdp_adjust_tail(ctx, -excess)) return XDP_DROP;
	if (bpf_xdp_adjust_head(ctx, -(int)GROWTH)) return XDP_DROP;
	data = data_of(ctx);
	end = end_of(ctx);
	if (data + sizeof(*eth) + GROWTH + QUOTE > end) return XDP_DROP;
	eth = data;
	__builtin_memcpy(eth, data + GROWTH, sizeof(*eth));
	ip = data + sizeof(*eth);
	icmp = (void *)(ip + 1);
	quoted = (void *)(icmp + 1);
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = IPPROTO_ICMP,
		.tot_len = bpf_htons(GROWTH + QUOTE),
		.saddr = quoted->daddr,
		.daddr = quoted->saddr,
	};
	ip->check = checksum(ip, sizeof(*ip), 0);
	*icmp = (struct icmphdr){ .type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED };
	icmp->un.frag.mtu = bpf_htons(mtu);
	icmp->checksum = checksum(icmp, sizeof(*icmp) + QUOTE, 0);
	errors++;
	return XDP_TX;
}

SEC("xdp")
int icmp_too_big(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5) return XDP_PASS;
	if (end - data > mtu) return too_big(ctx);
	if (ip->protocol == IPPROTO_ICMP) return echo_reply(ctx);
	return XDP_PASS;
}

LICENSE;
