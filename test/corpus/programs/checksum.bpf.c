/* Full checksums over payloads of unknown length: a loop over the packet, and one over a copy on the stack. */
#include "corpus.h"

#define WORDS 40

__u64 good, bad, tails;

static NOINLINE __u32 sum_words(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	__u16 *data = data_of(ctx) + (offset & 63);
	void *end = end_of(ctx);
	__u32 sum = 0;

	for (int i = 0; i < WORDS; i++) {
		if (length < 2 || (void *)(data + 1) > end) break;
		sum += *data++;
		length -= 2;
	}
	if (length == 1 && (void *)data + 1 <= end) {
		sum += *(__u8 *)data;
		tails++;
	}
	return sum;
}

SEC("xdp")
int checksum(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + ETH_HLEN;
	__u8 copy[48];
	__u32 sum = 0;

	if ((void *)(ip + 1) > end) return XDP_DROP;
	__u32 length = bpf_ntohs(ip->tot_len);
	__u32 header = ip->ihl * 4;
	sum = sum_words(ctx, ETH_HLEN, header);
	if (fold(sum)) {
		bad++;
		return XDP_PASS;
	}
	good++;
	if (length < header) return XDP_DROP;
	sum = sum_words(ctx, ETH_HLEN + header, length - header);
	__builtin_memset(copy, 0xa5, sizeof(copy));
	for (__u32 i = 0; i < sizeof(copy); i++) {
		__u8 *byte = data + ETH_HLEN + i;
		if ((void *)(byte + 1) > end) break;
		copy[i] = *byte;
	}
	/* A variable place on the stack. */
	__u32 at = sum & 31;
	copy[at] ^= sum;
	copy[at + 1] += at;
	__u64 total = 0;
	for (__u32 i = 0; i < sizeof(copy) / 8; i++) total += ((__u64 *)copy)[i] * (i + 1);
	if (data + 22 > end) return XDP_DROP;
	*(__u64 *)(data + 6) = total;
	*(__u16 *)(data + ETH_HLEN + 4) = fold(sum);
	return copy[at] & 1 ? XDP_TX : XDP_PASS;
}

LICENSE;
