/* Walks IPv6 extension headers in a bounded loop, with variable steps into the packet. */
#include "corpus.h"

#define MAX_HEADERS 8

enum { SEEN_HOP = 1, SEEN_ROUTING = 2, SEEN_FRAGMENT = 4, SEEN_DESTINATION = 8 };

struct extension {
	__u8 next;
	__u8 length;
};

struct fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 256);
} protocols SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct in6_addr);
	__type(value, __u32);
	__uint(max_entries, 64);
} sources SEC(".maps");

static __always_inline int count(__u32 protocol)
{
	__u64 *value = bpf_map_lookup_elem(&protocols, &protocol);
	if (!value) return -1;
	__sync_fetch_and_add(value, 1);
	return 0;
}

SEC("xdp")
int ipv6_extensions(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct ethhdr *eth = data;
	struct ipv6hdr *ip6 = data + sizeof(*eth);
	__u32 offset = sizeof(*eth) + sizeof(*ip6);
	__u32 seen = 0;
	__u8 next;

	if ((void *)(ip6 + 1) > end || eth->h_proto != bpf_htons(ETH_P_IPV6) || ip6->version != 6) return XDP_PASS;
	next = ip6->nexthdr;

	for (int i = 0; i < MAX_HEADERS; i++) {
		struct extension *header;
		if (offset > 1400) return XDP_DROP;
		header = data + offset;
		if ((void *)(header + 4) > end) break;
		switch (next) {
		case IPPROTO_HOPOPTS:
			if (i != 0) return XDP_DROP;
			seen |= SEEN_HOP;
			break;
		case IPPROTO_ROUTING:
			seen |= SEEN_ROUTING;
			break;
		case IPPROTO_DSTOPTS:
			seen |= SEEN_DESTINATION;
			break;
		case IPPROTO_FRAGMENT: {
			struct fragment *fragment = (void *)header;
			seen |= SEEN_FRAGMENT;
			if (bpf_ntohs(fragment->offset) >> 3) return count(253) ? XDP_ABORTED : XDP_PASS;
			next = fragment->next;
			offset += sizeof(*fragment);
			continue;
		}
		default:
			goto done;
		}
		next = header->next;
		offset += (header->length + 1) * 8;
	}
done:
	if (count(next)) return XDP_ABORTED;
	struct in6_addr source = ip6->saddr;
	__u32 *flags = bpf_map_lookup_elem(&sources, &source);
	if (flags) {
		*flags |= seen;
	} else {
		bpf_map_update_elem(&sources, &source, &seen, BPF_ANY);
	}
	return seen & SEEN_ROUTING ? XDP_DROP : XDP_PASS;
}

LICENSE;
