/* Longest prefix match for both families, with a cache of recent answers in front. */
#include "corpus.h"

struct prefix4 {
	__u32 length;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct prefix4);
	__type(value, __u32);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __be32);
	__type(value, __u32);
	__uint(max_entries, 256);
} cache SEC(".maps");

__u64 hits, misses, learned;

SEC("xdp")
int route(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + ETH_HLEN;
	struct prefix4 key = { .length = 32 };
	__u32 *hop, next;

	if ((void *)(ip + 1) > end) return XDP_DROP;
	hop = bpf_map_lookup_elem(&cache, &ip->daddr);
	if (hop) {
		hits++;
		return *hop & 3;
	}
	key.address = ip->daddr;
	hop = bpf_map_lookup_elem(&routes, &key);
	if (hop) {
		next = *hop;
	} else {
		misses++;
		/* Nobody knows the way: the source's network is learned, in widths that vary. */
		key.length = 8 + (ip->saddr & 15);
		key.address = ip->saddr & bpf_htonl(~0u << (32 - key.length));
		next = ip->ttl;
		if (!bpf_map_update_elem(&routes, &key, &next, BPF_ANY)) learned++;
	}
	bpf_map_update_elem(&cache, &ip->daddr, &next, BPF_ANY);
	return next & 1 ? XDP_PASS : XDP_TX;
}

LICENSE;
