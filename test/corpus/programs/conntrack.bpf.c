/* Connection tracking at tc: nested structures, state bits, ICMP errors that carry the inner header, both directions. */
#include "corpus.h"

struct tuple {
	__be32 addresses[2];
	__be16 ports[2];
	__u8 protocol;
	__u8 direction;
} __attribute__((packed));

struct half {
	__u64 packets, bytes;
	__u32 flags_seen : 8;
	__u32 closing : 1;
	__u32 syn_ack : 1;
	__u32 : 6;
	__u32 window : 16;
	__u32 sequence;
};

struct connection {
	struct half halves[2];
	enum { FRESH, ESTABLISHED, CLOSING, DEAD } state;
	__u32 lifetime;
	struct {
		__u32 mark;
		__u16 zone;
		__u8 related;
		_Bool natted;
	} extra;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct tuple);
	__type(value, struct connection);
	__uint(max_entries, 64);
} connections SEC(".maps");

struct counts {
	__u64 found, made, failed, related;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counts);
	__uint(max_entries, 2);
} statistics SEC(".maps");

const volatile struct {
	__u32 lifetimes[4];
	__u16 zone;
	_Bool strict;
} config = { .lifetimes = { 10, 1000, 30, 1 }, .zone = 7 };

static __always_inline void reverse(struct tuple *to, const struct tuple *from)
{
	to->addresses[0] = from->addresses[1];
	to->addresses[1] = from->addresses[0];
	to->ports[0] = from->ports[1];
	to->ports[1] = from->ports[0];
	to->protocol = from->protocol;
	to->direction = 0;
}

static NOINLINE int extract(struct __sk_buff *skb, __u32 offset, struct tuple *tuple, __u32 *l4)
{
	struct iphdr ip;
	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) < 0 || ip.version != 4) return -1;
	tuple->addresses[0] = ip.saddr;
	tuple->addresses[1] = ip.daddr;
	tuple->protocol = ip.protocol;
	tuple->direction = 0;
	tuple->ports[0] = tuple->ports[1] = 0;
	*l4 = offset + ip.ihl * 4;
	if (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP) return 0;
	return bpf_skb_load_bytes(skb, *l4, tuple->ports, sizeof(tuple->ports));
}

static NOINLINE void track(struct connection *connection, __u32 side, __u32 length, const struct tcphdr *tcp)
{
	if (!connection) return;
	struct half *half = &connection->halves[side & 1];
	half->packets++;
	half->bytes += length;
	if (tcp) {
		half->flags_seen |= ((const __u8 *)tcp)[13];
		half->window = bpf_ntohs(tcp->window);
		half->sequence = bpf_ntohl(tcp->seq);
		if (tcp->syn && tcp->ack) half->syn_ack = 1;
		if (tcp->fin || tcp->rst) half->closing = 1;
		if (connection->halves[0].closing && connection->halves[1].closing)
			connection->state = DEAD;
		else if (half->closing)
			connection->state = CLOSING;
		else if (tcp->ack)
			connection->state = ESTABLISHED;
	}
	connection->lifetime = config.lifetimes[connection->state & 3];
}

SEC("tc")
int conntrack(struct __sk_buff *skb)
{
	struct tuple tuple, back;
	struct tcphdr header, *tcp = 0;
	struct connection *connection, fresh = {};
	__u32 l4 = 0, side = 0, slot = skb->ifindex & 1;

	if (skb->protocol != bpf_htons(ETH_P_IP)) return TC_ACT_OK;
	if (extract(skb, ETH_HLEN, &tuple, &l4) < 0) return config.strict ? TC_ACT_SHOT : TC_ACT_OK;
	struct counts *counts = bpf_map_lookup_elem(&statistics, &slot);
	if (!counts) return TC_ACT_SHOT;

	if (tuple.protocol == IPPROTO_ICMP) {
		struct tuple inner;
		__u8 type;
		if (!bpf_skb_load_bytes(skb, l4, &type, 1) && (type == 3 || type == 11) && !extract(skb, l4 + 8, &inner, &l4)) {
			connection = bpf_map_lookup_elem(&connections, &inner);
			if (connection) {
				connection->extra.related++;
				counts->related++;
				return TC_ACT_OK;
			}
		}
	}
	if (tuple.protocol == IPPROTO_TCP && !bpf_skb_load_bytes(skb, l4, &header, sizeof(header))) tcp = &header;

	connection = bpf_map_lookup_elem(&connections, &tuple);
	if (!connection) {
		reverse(&back, &tuple);
		connection = bpf_map_lookup_elem(&connections, &back);
		side = 1;
	}
	if (!connection) {
		side = 0;
		fresh.extra.zone = config.zone;
		fresh.extra.mark = skb->len << 8 | tuple.protocol;
		fresh.extra.natted = tuple.ports[0] > tuple.ports[1];
		if (bpf_map_update_elem(&connections, &tuple, &fresh, BPF_NOEXIST)) {
			counts->failed++;
			return TC_ACT_SHOT;
		}
		connection = bpf_map_lookup_elem(&connections, &tuple);
		counts->made++;
	} else {
		counts->found++;
	}
	if (!connection) return TC_ACT_SHOT;
	track(connection, side, skb->len, tcp);
	skb->mark = connection->extra.mark;
	return connection->state == DEAD ? TC_ACT_SHOT : TC_ACT_OK;
}

LICENSE;
