/* IP in IP: adds and removes an outer header, keeps metadata in front, trims padding. */
#include "corpus.h"

struct metadata {
	__u32 mark;
	__u16 length;
	__u16 inner;
};

__u64 encapsulated, decapsulated, trimmed, failed;
const volatile __u8 tunnel_ttl = 64;

static __always_inline int encapsulate(struct xdp_md *ctx)
{
	struct ethhdr *eth, *outer;
	struct iphdr *ip, *inner;
	__u16 length;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip))) return XDP_ABORTED;
	void *data = data_of(ctx), *end = end_of(ctx);
	outer = data;
	eth = data + sizeof(*ip);
	ip = data + sizeof(*outer);
	inner = data + sizeof(*outer) + sizeof(*ip);
	if ((void *)(inner + 1) > end) return XDP_ABORTED;
	__builtin_memmove(outer, eth, sizeof(*outer));
	length = bpf_ntohs(inner->tot_len) + sizeof(*ip);
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = inner->tos;
	ip->tot_len = bpf_htons(length);
	ip->ttl = tunnel_ttl;
	ip->protocol = IPPROTO_IPIP;
	ip->saddr = inner->daddr;
	ip->daddr = bpf_htonl(0xc6336401);
	__u32 sum = 0;
	__u16 *words = (void *)ip;
	for (int i = 0; i < 10; i++) sum += words[i];
	ip->check = fold(sum);
	encapsulated++;

	if (!bpf_xdp_adjust_meta(ctx, -(int)sizeof(struct metadata))) {
		struct metadata *meta = (void *)(long)ctx->data_meta;
		if ((void *)(meta + 1) <= data_of(ctx)) {
			meta->mark = 0xfeedbeef;
			meta->length = length;
			meta->inner = 4;
		}
	}
	return XDP_TX;
}

static __always_inline int decapsulate(struct xdp_md *ctx)
{
	struct ethhdr copy;
	void *data = data_of(ctx), *end = end_of(ctx);

	if (data + sizeof(copy) > end) return XDP_DROP;
	__builtin_memcpy(&copy, data, sizeof(copy));
	if (bpf_xdp_adjust_head(ctx, sizeof(struct iphdr))) {
		failed++;
		return XDP_DROP;
	}
	data = data_of(ctx);
	end = end_of(ctx);
	if (data + sizeof(copy) > end) return XDP_DROP;
	__builtin_memcpy(data, &copy, sizeof(copy));
	decapsulated++;
	return XDP_PASS;
}

SEC("xdp")
int tunnel(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
	if (ip->ihl != 5) return XDP_DROP;
	if (ip->protocol == IPPROTO_IPIP) return decapsulate(ctx);

	long padding = (long)end - (long)data - (long)sizeof(*eth) - bpf_ntohs(ip->tot_len);
	if (padding > 0 && padding < 64) {
		if (bpf_xdp_adjust_tail(ctx, -padding)) {
			failed++;
			return XDP_DROP;
		}
		trimmed++;
	}
	return encapsulate(ctx);
}

LICENSE;
