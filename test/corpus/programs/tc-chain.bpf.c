/* A chain at tc whose state travels in skb->cb. */
#include "corpus.h"

int second(struct __sk_buff *);
int third(struct __sk_buff *);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(max_entries, 4);
	__array(values, int(struct __sk_buff *));
} chain SEC(".maps") = { .values = { [1] = &second, [2] = &third } };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64[2]);
	__uint(max_entries, 4);
} counters SEC(".maps");

static NOINLINE void count(__u32 slot, __u64 amount)
{
	__u64(*value)[2] = bpf_map_lookup_elem(&counters, &slot);
	if (!value) return;
	(*value)[0]++;
	(*value)[1] += amount;
}

SEC("tc")
int third(struct __sk_buff *skb)
{
	count(2, skb->cb[1]);
	__u32 sum = skb->cb[0] + skb->cb[1] + skb->cb[2];
	if (bpf_skb_change_tail(skb, sum % 64 + 60, 0)) return TC_ACT_SHOT;
	return TC_ACT_OK;
}

SEC("tc")
int second(struct __sk_buff *skb)
{
	count(1, skb->cb[0]);
	skb->cb[1] = skb->cb[0] * 3;
	skb->cb[2] = skb->protocol;
	bpf_tail_call(skb, &chain, skb->cb[0] & 7);
	count(3, skb->cb[0] & 7);
	return TC_ACT_PIPE;
}

SEC("tc")
int first(struct __sk_buff *skb)
{
	__u8 head[6];
	count(0, skb->len);
	if (bpf_skb_pull_data(skb, 14) || bpf_skb_load_bytes(skb, 0, head, sizeof(head))) return TC_ACT_SHOT;
	skb->cb[0] = head[5] + skb->len;
	bpf_tail_call(skb, &chain, 1);
	return TC_ACT_SHOT;
}

LICENSE;
