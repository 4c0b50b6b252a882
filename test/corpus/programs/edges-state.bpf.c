/* Programs in which what the verifier knows travels: through the stack, functions, callbacks and numbers that hang together. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64[16]);
	__uint(max_entries, 2);
} words SEC(".maps");

static __u64 *words_of(__u32 key) { return bpf_map_lookup_elem(&words, &key); }

struct window {
	__u32 from, to;
	__u64 sum;
};

static NOINLINE int narrow(struct window *w, __u32 by)
{
	if (!w) return 0;
	if (w->from + by < w->to) w->from += by;
	w->sum ^= (__u64)w->from << 32 | w->to;
	return w->to - w->from;
}

SEC("xdp")
int windows(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx);
	if ((void *)(data + 8) > end_of(ctx)) return XDP_DROP;
	struct window w = { .from = data[0], .to = data[0] + data[1] };
	int left = 0;
	for (int i = 2; i < 8; i++) left += narrow(&w, data[i] & 15);
	__u64 *value = words_of(0);
	if (!value) return XDP_ABORTED;
	value[left & 15] += w.sum;
	return left & 1 ? XDP_TX : XDP_PASS;
}

struct progress {
	__u32 at;
	__u64 product;
};

static long step(__u32 index, void *context)
{
	struct progress *p = context;
	p->product = p->product * 6364136223846793005ull + index;
	p->at = (p->at + 1) & 15;
	return p->product % 17 == 0;
}

SEC("xdp")
int called_back(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx);
	if ((void *)(data + 2) > end_of(ctx)) return XDP_DROP;
	struct progress p = { .product = data[0] };
	long rounds = bpf_loop(data[1] & 63, step, &p, 0);
	__u64 *value = words_of(1);
	if (!value || p.at > 15) return XDP_ABORTED;
	value[p.at] = p.product + rounds;
	return XDP_PASS;
}

struct bpf_map;

struct largest {
	__u64 value;
	__u32 key;
};

static long compare(struct bpf_map *map, __u32 *key, __u64 *value, struct largest *best)
{
	for (int i = 0; i < 16; i++)
		if (value[i] > best->value) best->value = value[i], best->key = *key;
	return 0;
}

SEC("tc")
int largest(struct __sk_buff *skb)
{
	struct largest best = {};
	__u64 *value = words_of(skb->len & 1);
	if (value) value[(skb->len >> 1) & 15] += skb->len;
	long visited = bpf_for_each_map_elem(&words, compare, &best, 0);
	skb->mark = best.key << 16 | visited;
	return best.value > 1000 ? TC_ACT_SHOT : TC_ACT_OK;
}

/* Offsets that were compared as one number and are used as another. */
SEC("tc")
int linked(struct __sk_buff *skb)
{
	__u64 *value = words_of(0);
	__u32 at = skb->len, before = at - 1, after = at + 2;
	if (!value) return TC_ACT_SHOT;
	if (at == 0 || at > 13) at = (at & 7) + 1, before = at - 1, after = at + 2;
	value[before & 15] += value[after & 15];
	skb->mark = value[at & 15];
	return TC_ACT_OK;
}

/* A pointer that is one of several. */
SEC("xdp")
int either(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx);
	__u64 local[16] = {}, *value = words_of(1), *chosen;
	if ((void *)(data + 3) > end_of(ctx) || !value) return XDP_DROP;
	chosen = data[0] & 1 ? value : local;
	chosen[data[1] & 15] = data[2];
	return local[3] ? XDP_TX : XDP_PASS;
}

LICENSE;
