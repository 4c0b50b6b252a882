/* Stateless address and port translation: hash lookups by flow, bpf_csum_diff, incremental checksums. */
#include "corpus.h"

struct flow {
	__be32 source, destination;
	__be16 source_port, destination_port;
	__u8 protocol;
	__u8 pad[3];
};

struct mapping {
	__be32 address;
	__be16 port;
	__u16 uses;
	__u64 bytes;
	struct flow original;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow);
	__type(value, struct mapping);
	__uint(max_entries, 16);
} mappings SEC(".maps");

const volatile __be32 outside = bpf_htonl(0xcb007105);
const volatile struct {
	__u16 first, count;
} ports = { 40000, 4 };

__u32 next_port;
__u64 errors[4];

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

SEC("xdp")
int nat(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_of(ctx);
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	struct iphdr *ip;
	struct flow flow = {};
	__be16 *check, *from_port;

	if (!eth || eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
	ip = take(&cursor, sizeof(*ip));
	if (!ip || ip->ihl != 5 || ip->frag_off & bpf_htons(0x3fff)) return XDP_PASS;
	if (ip->ttl <= 1) {
		errors[0]++;
		return XDP_DROP;
	}
	flow.source = ip->saddr;
	flow.destination = ip->daddr;
	flow.protocol = ip->protocol;
	if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = take(&cursor, sizeof(*udp));
		if (!udp) return XDP_DROP;
		flow.source_port = udp->source;
		flow.destination_port = udp->dest;
		check = (__be16 *)&udp->check;
		from_port = &udp->source;
	} else if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = take(&cursor, sizeof(*tcp));
		if (!tcp) return XDP_DROP;
		flow.source_port = tcp->source;
		flow.destination_port = tcp->dest;
		check = (__be16 *)&tcp->check;
		from_port = &tcp->source;
	} else {
		errors[1]++;
		return XDP_PASS;
	}

	struct mapping *mapping = bpf_map_lookup_elem(&mappings, &flow);
	if (!mapping) {
		struct mapping fresh = {
			.address = outside,
			.port = bpf_htons(ports.first + next_port++ % ports.count),
			.original = flow,
		};
		if (bpf_map_update_elem(&mappings, &flow, &fresh, BPF_NOEXIST) < 0) {
			errors[2]++;
			return XDP_DROP;
		}
		mapping = bpf_map_lookup_elem(&mappings, &flow);
		if (!mapping) {
			errors[3]++;
			return XDP_ABORTED;
		}
	}
	mapping->uses++;
	mapping->bytes += bpf_ntohs(ip->tot_len);

	__be32 before[2] = { ip->saddr, *from_port };
	__be32 after[2] = { mapping->address, mapping->port };
	if (*check || ip->protocol == IPPROTO_TCP) {
		__s64 sum = bpf_csum_diff(before, sizeof(before), after, sizeof(after), (__u16)~*check);
		*check = fold((__u32)sum);
	}
	ip->saddr = mapping->address;
	*from_port = mapping->port;
	ip->ttl--;

	__u32 sum = 0;
	__u16 *words = (void *)ip;
	ip->check = 0;
#pragma unroll
	for (int i = 0; i < 10; i++) sum += words[i];
	ip->check = fold(sum);
	swap_macs(eth);
	return XDP_TX;
}

LICENSE;
