/* Small classifiers: bytes through helpers and through pointers, marks, priorities, fields of the context. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 128);
} recent SEC(".maps");

static __u64 totals[8];

static __always_inline void *start(struct __sk_buff *skb) { return (void *)(long)skb->data; }
static __always_inline void *finish(struct __sk_buff *skb) { return (void *)(long)skb->data_end; }

SEC("tc")
int mark_by_length(struct __sk_buff *skb)
{
	__u32 length = skb->len, class = 0;
	for (__u32 limit = 32; limit < 2048 && length > limit; limit <<= 1) class++;
	skb->mark = class << 8 | (length & 0xff);
	totals[class & 7] += length;
	return class > 3 ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc")
int control_block(struct __sk_buff *skb)
{
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 5; i++) skb->cb[i] = skb->len * (i + 1);
#pragma unroll
	for (int i = 0; i < 5; i++) sum ^= skb->cb[i];
	skb->mark = sum;
	return sum & 1 ? TC_ACT_OK : TC_ACT_UNSPEC;
}

SEC("tc")
int pulled(struct __sk_buff *skb)
{
	if (bpf_skb_pull_data(skb, 20)) return TC_ACT_SHOT;
	__u8 *data = start(skb);
	if ((void *)(data + 20) > finish(skb)) return TC_ACT_SHOT;
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 20; i++) sum += data[i];
	skb->mark = sum;
	data[19] = sum;
	return TC_ACT_OK;
}

SEC("tc")
int through_the_stack(struct __sk_buff *skb)
{
	__u8 buffer[16];
	if (bpf_skb_load_bytes(skb, 0, buffer, sizeof(buffer))) return TC_ACT_SHOT;
	for (int i = 0; i < 8; i++) {
		__u8 other = buffer[15 - i];
		buffer[15 - i] = buffer[i];
		buffer[i] = other;
	}
	bpf_skb_store_bytes(skb, 0, buffer, sizeof(buffer), 0);
	return TC_ACT_OK;
}

SEC("tc")
int some_bytes(struct __sk_buff *skb)
{
	__u8 buffer[32] = {};
	__u32 length = skb->len & 31;
	if (length == 0 || bpf_skb_load_bytes(skb, 0, buffer, length)) return TC_ACT_UNSPEC;
	__u32 sum = 0;
	for (int i = 0; i < 32; i++) sum = sum * 7 + buffer[i];
	skb->mark = sum;
	return TC_ACT_OK;
}

SEC("tc")
int recently(struct __sk_buff *skb)
{
	__u32 key = skb->len & 127, *count = bpf_map_lookup_elem(&recent, &key), first = 1;
	if (!count) {
		bpf_map_update_elem(&recent, &key, &first, BPF_ANY);
		return TC_ACT_OK;
	}
	if (++*count > 3) bpf_map_delete_elem(&recent, &key);
	return TC_ACT_SHOT;
}

SEC("tc")
int resized(struct __sk_buff *skb)
{
	__u32 length = skb->len;
	if (length < 40 || bpf_skb_change_tail(skb, length - 8, 0)) return TC_ACT_UNSPEC;
	__u8 *data = start(skb);
	if ((void *)(data + 32) > finish(skb)) return TC_ACT_SHOT;
	skb->mark = data[31] ^ skb->len;
	return TC_ACT_OK;
}

SEC("action")
int act(struct __sk_buff *skb)
{
	__u8 *data = start(skb);
	if ((void *)(data + 14) > finish(skb)) return TC_ACT_SHOT;
	__u16 type = bpf_ntohs(*(__be16 *)(data + 12));
	switch (type) {
	case ETH_P_IP: return TC_ACT_OK;
	case ETH_P_IPV6: return TC_ACT_RECLASSIFY;
	case ETH_P_ARP: return TC_ACT_PIPE;
	case ETH_P_8021Q: return TC_ACT_STOLEN;
	default: return TC_ACT_UNSPEC;
	}
}

LICENSE;
