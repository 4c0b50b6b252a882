/* Token buckets per source in bit fields, filled by packets instead of time; copies whole structures. */
#include "corpus.h"

struct bucket {
	__u32 tokens : 12;
	__u32 burst : 12;
	__u32 colour : 2;
	__u32 strikes : 6;
	__s32 debt;
	__u64 last;
	struct {
		__u16 minimum, maximum;
		__u32 total;
	} sizes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(max_entries, 24);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(max_entries, 2);
} snapshots SEC(".maps");

static __u64 tick;
struct bucket defaults = { .tokens = 3000, .burst = 3000, .colour = 1, .sizes = { .minimum = 0xffff } };
enum { GREEN = 1, YELLOW, RED };

static NOINLINE void refill(struct bucket *bucket, __u64 now)
{
	__u64 gained = (now - bucket->last) * 50;
	__u64 tokens = bucket->tokens + gained;
	if (tokens > bucket->burst) tokens = bucket->burst;
	bucket->tokens = tokens;
	bucket->last = now;
}

SEC("tc")
int policer(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct bucket local, *bucket;
	__u32 key, size = skb->len, slot;
	int verdict = TC_ACT_OK;

	if ((void *)(ip + 1) > end) return TC_ACT_SHOT;
	key = skb->protocol == bpf_htons(ETH_P_IP) ? ip->saddr : 0;
	bucket = bpf_map_lookup_elem(&buckets, &key);
	local = bucket ? *bucket : defaults;
	refill(&local, ++tick);
	if (local.tokens >= size) {
		local.tokens -= size;
		local.colour = GREEN;
	} else if (local.debt > -500) {
		local.debt -= (int)size - (int)local.tokens;
		local.tokens = 0;
		local.colour = YELLOW;
		local.strikes++;
		verdict = TC_ACT_PIPE;
	} else {
		local.colour = RED;
		local.debt += 200;
		verdict = TC_ACT_SHOT;
	}
	if (size < local.sizes.minimum) local.sizes.minimum = size;
	if (size > local.sizes.maximum) local.sizes.maximum = size;
	local.sizes.total += size;
	if (bpf_map_update_elem(&buckets, &key, &local, bucket ? BPF_EXIST : BPF_NOEXIST)) return TC_ACT_SHOT;
	slot = local.colour == RED;
	struct bucket *snapshot = bpf_map_lookup_elem(&snapshots, &slot);
	if (snapshot) *snapshot = local;
	if (local.strikes > 40) bpf_map_delete_elem(&buckets, &key);
	return verdict;
}

LICENSE;
