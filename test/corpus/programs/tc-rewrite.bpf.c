/* Destination rewriting at tc with the skb helpers; the second program marks and re-prioritises. */
#include "corpus.h"
#include <stddef.h>

#define IP_AT(field) (ETH_HLEN + offsetof(struct iphdr, field))
#define L4_AT(field) (ETH_HLEN + sizeof(struct iphdr) + offsetof(struct tcphdr, field))

struct backend {
	__be32 address;
	__be16 port;
	__u16 weight;
};

const volatile struct backend backends[] = {
	{ bpf_htonl(0x0a000001), bpf_htons(8080), 1 },
	{ bpf_htonl(0x0a000002), bpf_htons(8081), 2 },
	{ bpf_htonl(0x0a000003), bpf_htons(8082), 3 },
	{ bpf_htonl(0x0a000004), bpf_htons(8083), 4 },
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64[4]);
	__uint(max_entries, 4);
} usage SEC(".maps");

SEC("tc")
int rewrite(struct __sk_buff *skb)
{
	struct iphdr ip;
	struct {
		__be16 source, destination;
	} ports;
	__u32 which;
	int check_at;
	__u64 flags = 0x10; /* BPF_F_PSEUDO_HDR */

	if (skb->protocol != bpf_htons(ETH_P_IP)) return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0) return TC_ACT_SHOT;
	if (ip.ihl != 5) return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &ports, sizeof(ports)) < 0) return TC_ACT_OK;
	switch (ip.protocol) {
	case IPPROTO_TCP:
		check_at = L4_AT(check);
		break;
	case IPPROTO_UDP:
		check_at = ETH_HLEN + sizeof(ip) + offsetof(struct udphdr, check);
		flags |= BPF_F_MARK_MANGLED_0;
		break;
	default:
		return TC_ACT_PIPE;
	}
	which = (bpf_ntohl(ip.saddr) ^ bpf_ntohs(ports.source)) % (sizeof(backends) / sizeof(*backends));
	const volatile struct backend *backend = &backends[which];
	__be32 address = backend->address;
	__be16 port = backend->port;

	if (bpf_l4_csum_replace(skb, check_at, ip.daddr, address, flags | sizeof(address))) return TC_ACT_SHOT;
	if (bpf_l4_csum_replace(skb, check_at, ports.destination, port, (flags & ~0x10ull) | sizeof(port))) return TC_ACT_SHOT;
	if (bpf_l3_csum_replace(skb, IP_AT(check), ip.daddr, address, sizeof(address))) return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, IP_AT(daddr), &address, sizeof(address), 0)) return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, L4_AT(dest), &port, sizeof(port), 0)) return TC_ACT_SHOT;

	__u64(*counts)[4] = bpf_map_lookup_elem(&usage, &which);
	if (counts) {
		(*counts)[0]++;
		(*counts)[1] += skb->len;
		(*counts)[2] += backend->weight;
		(*counts)[3] = skb->hash;
	}
	return TC_ACT_OK;
}

SEC("classifier")
int mark(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;

	skb->mark = 0x1000;
	skb->priority = skb->len > 100 ? 7 : 1;
	skb->cb[0] = skb->len;
	skb->cb[4] = skb->ifindex;
	skb->tc_classid = 0x10001;
	if (data + sizeof(*eth) + 1 > end) return TC_ACT_SHOT;
	skb->mark |= eth->h_dest[5] + skb->cb[0] + (skb->cb[4] << 16);
	if (eth->h_source[0] & 1) return TC_ACT_STOLEN;
	eth->h_source[0] |= 2;
	*(__u16 *)&eth->h_dest[4] = bpf_htons(skb->mark);
	__builtin_memset(eth->h_dest, skb->priority, 3);
	return skb->priority == 7 ? bpf_redirect(skb->ifindex + 1, BPF_F_INGRESS) : TC_ACT_RECLASSIFY;
}

LICENSE;
