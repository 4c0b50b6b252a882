/* Dynptrs over a socket buffer, where the program may write it and where it may not. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

__s64 results[16];

SEC("tc")
int writer(struct __sk_buff *skb)
{
	struct bpf_dynptr packet, part;
	__u8 bytes[20] = {};
	results[0] = bpf_dynptr_from_skb(skb, 0, &packet);
	results[1] = bpf_dynptr_size(&packet);
	results[2] = (bpf_dynptr_is_rdonly(&packet) & 1);
	struct iphdr *ip = bpf_dynptr_slice(&packet, ETH_HLEN, bytes, sizeof(*ip));
	if (!ip) return TC_ACT_SHOT;
	results[3] = ip->protocol;
	results[4] = bpf_dynptr_write(&packet, 0, "\x02\x00\x00\x00\x00\x01", 6, 0);
	results[5] = bpf_dynptr_write(&packet, 0, "\x02\x00\x00\x00\x00\x01", 6, 8);
	results[6] = bpf_dynptr_write(&packet, 6, "\x06", 1, 1);
	__u8 *tos = bpf_dynptr_slice_rdwr(&packet, ETH_HLEN + 1, bytes, 1);
	if (tos) *tos |= 4;
	results[7] = bpf_dynptr_clone(&packet, &part);
	results[8] = bpf_dynptr_adjust(&part, ETH_HLEN, ETH_HLEN + 20);
	results[9] = bpf_dynptr_read(bytes, 20, &part, 0, 0);
	results[10] = bpf_dynptr_read(bytes, 20, &part, 1, 0);
	results[11] = bpf_dynptr_memset(&part, 8, 2, 7);
	for (int i = 0; i < 20; i++) results[12] = results[12] * 3 + bytes[i];
	return TC_ACT_OK;
}

SEC("tc")
int shorter(struct __sk_buff *skb)
{
	struct bpf_dynptr packet;
	__u8 bytes[4] = { 9, 9, 9, 9 };
	if (bpf_dynptr_from_skb(skb, 0, &packet)) return TC_ACT_SHOT;
	__u32 size = bpf_dynptr_size(&packet);
	if (size < 40 || bpf_skb_change_tail(skb, 38, 0)) return TC_ACT_OK;
	results[0] = bpf_dynptr_read(bytes, 4, &packet, size - 4, 0);
	results[1] = *(__u32 *)bytes;
	results[2] = bpf_dynptr_write(&packet, size - 4, bytes, 4, 0);
	results[3] = bpf_dynptr_slice(&packet, 36, 0, 4) != 0;
	results[4] = bpf_dynptr_slice(&packet, 30, 0, 4) != 0;
	return TC_ACT_OK;
}

SEC("cgroup_skb/ingress")
int reader(struct __sk_buff *skb)
{
	struct bpf_dynptr packet;
	__u8 bytes[20] = {};
	results[0] = bpf_dynptr_from_skb(skb, 0, &packet);
	results[1] = (bpf_dynptr_is_rdonly(&packet) & 1);
	results[2] = bpf_dynptr_write(&packet, 0, bytes, 4, 0);
	results[3] = bpf_dynptr_data(&packet, 0, 4) != 0;
	struct iphdr *ip = bpf_dynptr_slice(&packet, 0, bytes, sizeof(*ip));
	results[4] = ip ? ip->protocol : -1;
	results[5] = bpf_dynptr_size(&packet);
	return 1;
}

LICENSE;
