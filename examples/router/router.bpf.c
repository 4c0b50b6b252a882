/*
 * A small router as an XDP pipeline.
 *
 *   router --> vlan (once per tag) --> ipv4 --> tcp, udp, icmp --> policy --> route
 *          \-> arp                 \-> ipv6 --> tcp, udp, icmpv6 -/
 *
 * Each box is a program of its own, reached by a tail call through the prog array `stages`, so that a stage can be
 * replaced while packets flow. The dispatcher and the VLAN stage compute the index from the packet; IPv4 and IPv6
 * name the next stage by a constant. Before a packet is routed it passes one of two policy arrays, for tagged and for
 * untagged traffic; they are empty unless somebody puts a program in.
 *
 * Nothing but the context survives a tail call, so what earlier stages found out waits in a per-CPU scratch map.
 *
 * Addresses are those for documentation: RFC 5737, RFC 3849, RFC 7042.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "headers.h"

enum stage { STAGE_VLAN, STAGE_ARP, STAGE_IPV4, STAGE_IPV6, STAGE_TCP, STAGE_UDP, STAGE_ICMP, STAGE_ICMPV6, STAGES };

enum protocol { ETHERNET, VLAN, QINQ, ARP, IPV4, IPV6, TCP, UDP, ICMP, ICMPV6, OTHER, PROTOCOLS };

enum drop {
	DROP_TRUNCATED,    /* shorter than its headers say */
	DROP_BAD_HEADER,   /* a field that no sender may set so */
	DROP_BAD_CHECKSUM, /* of the IPv4 header */
	DROP_TAG_STACK,    /* more than two VLAN tags */
	DROP_TTL,          /* would live no longer */
	DROP_SCAN,         /* TCP flags that only a scanner sends */
	DROPS
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct flow {
	__u8 source[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

/* What stages tell each other about the packet. */
struct packet_state {
	__u32 l3_offset;
	__u32 l4_offset;
	__u32 l4_length;
	__u32 tags;
	__u16 vlan[2];
	__u8 version; /* 4 or 6 */
	__u8 local;   /* for this machine: not routed */
	__u8 own;     /* to the router's very address */
	__u8 pad;
	__be32 destination[4]; /* IPv4: only the first */
	struct flow flow;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct packet_state);
	__uint(max_entries, 1);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum protocol);
	__type(value, struct counter);
	__uint(max_entries, PROTOCOLS);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow);
	__type(value, struct counter);
	__uint(max_entries, 4096);
} flows SEC(".maps");

struct policy {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
};
struct policy untagged_policy SEC(".maps");
struct policy tagged_policy SEC(".maps");

int stage_vlan(struct xdp_md *ctx);
int stage_arp(struct xdp_md *ctx);
int stage_ipv4(struct xdp_md *ctx);
int stage_ipv6(struct xdp_md *ctx);
int stage_tcp(struct xdp_md *ctx);
int stage_udp(struct xdp_md *ctx);
int stage_icmp(struct xdp_md *ctx);
int stage_icmpv6(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} stages SEC(".maps") = {
	.values = {
		[STAGE_VLAN] = (void *)&stage_vlan,
		[STAGE_ARP] = (void *)&stage_arp,
		[STAGE_IPV4] = (void *)&stage_ipv4,
		[STAGE_IPV6] = (void *)&stage_ipv6,
		[STAGE_TCP] = (void *)&stage_tcp,
		[STAGE_UDP] = (void *)&stage_udp,
		[STAGE_ICMP] = (void *)&stage_icmp,
		[STAGE_ICMPV6] = (void *)&stage_icmpv6,
	},
};

/* How often a packet was dropped, by reason. */
__u64 drops[DROPS];
/* Tail calls that found no program in their slot. */
__u64 missed_stages;

/* The router's own addresses; they can be changed before loading. */
const volatile __u8 router_mac[6] = {0x00, 0x00, 0x5e, 0x00, 0x53, 0x01};
const volatile __be32 router_ipv4 = bpf_htonl(0xc0000201); /* 192.0.2.1 */
const volatile __be32 router_ipv6[4] = {bpf_htonl(0x20010db8), 0, 0, bpf_htonl(1)};

struct route4 {
	__be32 prefix;
	__be32 mask;
	__u32 ifindex;
	__u8 next_hop[6];
};

static const struct route4 routes4[] = {
	/* 192.0.2.0/24, 198.51.100.0/24, 203.0.113.128/25 */
	{bpf_htonl(0xc0000200), bpf_htonl(0xffffff00), 1, {0x00, 0x00, 0x5e, 0x00, 0x53, 0x10}},
	{bpf_htonl(0xc6336400), bpf_htonl(0xffffff00), 2, {0x00, 0x00, 0x5e, 0x00, 0x53, 0x20}},
	{bpf_htonl(0xcb007180), bpf_htonl(0xffffff80), 3, {0x00, 0x00, 0x5e, 0x00, 0x53, 0x30}},
};

struct route6 {
	__be32 prefix[2]; /* always a /64 */
	__u32 ifindex;
	__u8 next_hop[6];
};

static const struct route6 routes6[] = {
	/* 2001:db8:1::/64, 2001:db8:2::/64 */
	{{bpf_htonl(0x20010db8), bpf_htonl(0x00010000)}, 1, {0x00, 0x00, 0x5e, 0x00, 0x53, 0x11}},
	{{bpf_htonl(0x20010db8), bpf_htonl(0x00020000)}, 2, {0x00, 0x00, 0x5e, 0x00, 0x53, 0x22}},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Bounds for the verifier: two tags and the longest IPv4 header. */
#define L3_OFFSET_MASK 31
#define L4_OFFSET_MASK 127

/*
 * A tail call with a constant index. Plain C will not do: clang merges such calls into one with a variable index, which
 * no runtime can turn into a direct jump. (libbpf's bpf_tail_call_static is the same; as a macro, this one leaves the
 * caller's line in the debug information.)
 */
#define tail_call_constant(ctx, map, index)                                                                            \
	asm volatile("r1 = %[c]\n r2 = %[m] ll\n r3 = %[i]\n call 12"                                                  \
		     :                                                                                                 \
		     : [c] "r"(ctx), [m] "i"(&map), [i] "i"(index)                                                     \
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory")

/* Length of the frame, bytes. */
static __always_inline __u64 length_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end - (void *)(long)ctx->data;
}

static __noinline void count(struct xdp_md *ctx, enum protocol protocol)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, &protocol);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += length_of(ctx);
}

static __always_inline int drop(enum drop reason)
{
	__sync_fetch_and_add(&drops[reason], 1);
	return XDP_DROP;
}

static __always_inline struct packet_state *packet_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* Stage of an ethertype; STAGES for those we don't know. */
static __always_inline __u32 stage_of(__be16 type)
{
	switch (bpf_ntohs(type)) {
	case ETHERTYPE_VLAN:
	case ETHERTYPE_QINQ:
		return STAGE_VLAN;
	case ETHERTYPE_ARP:
		return STAGE_ARP;
	case ETHERTYPE_IPV4:
		return STAGE_IPV4;
	case ETHERTYPE_IPV6:
		return STAGE_IPV6;
	default:
		return STAGES;
	}
}

/* To the stage of an ethertype; comes back only if that has none. */
static __always_inline int dispatch(struct xdp_md *ctx, __be16 type)
{
	__u32 stage = stage_of(type);

	if (stage == STAGES) {
		count(ctx, OTHER);
		return XDP_PASS;
	}
	bpf_tail_call(ctx, &stages, stage);
	__sync_fetch_and_add(&missed_stages, 1);
	return XDP_PASS;
}

static __always_inline void copy_mac(__u8 *to, const volatile __u8 *from)
{
	for (int i = 0; i < 6; i++)
		to[i] = from[i];
}

/* The frame goes back where it came from. */
static __always_inline void turn_round(struct ethernet *ethernet)
{
	copy_mac(ethernet->destination, ethernet->source);
	copy_mac(ethernet->source, router_mac);
}

static __always_inline void count_flow(struct flow *flow, __u64 bytes)
{
	struct counter *known = bpf_map_lookup_elem(&flows, flow);
	struct counter first = {1, bytes};

	if (known) {
		__sync_fetch_and_add(&known->packets, 1);
		__sync_fetch_and_add(&known->bytes, bytes);
	} else {
		bpf_map_update_elem(&flows, flow, &first, BPF_NOEXIST);
	}
}

/* Sends the packet on: out of another interface, out of the same, or up to the network stack. */
static __always_inline int forward(struct xdp_md *ctx, struct packet_state *state)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = data;
	const __u8 *next_hop = 0;
	__u32 ifindex = 0;

	if ((void *)(ethernet + 1) > data_end)
		return drop(DROP_TRUNCATED);

	if (state->version == 4) {
		for (int i = 0; i < COUNT(routes4); i++) {
			if ((state->destination[0] & routes4[i].mask) == routes4[i].prefix) {
				ifindex = routes4[i].ifindex;
				next_hop = routes4[i].next_hop;
				break;
			}
		}
	} else {
		for (int i = 0; i < COUNT(routes6); i++) {
			if (state->destination[0] == routes6[i].prefix[0] &&
			    state->destination[1] == routes6[i].prefix[1]) {
				ifindex = routes6[i].ifindex;
				next_hop = routes6[i].next_hop;
				break;
			}
		}
	}
	if (!next_hop)
		return XDP_PASS;

	copy_mac(ethernet->destination, next_hop);
	copy_mac(ethernet->source, router_mac);
	if (ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(ifindex, 0);
}

/* The last step of each transport stage. */
static __always_inline int police_and_forward(struct xdp_md *ctx, struct packet_state *state)
{
	if (state->local)
		return XDP_PASS;
	bpf_tail_call(ctx, state->tags ? (void *)&tagged_policy : (void *)&untagged_policy, 0);
	return forward(ctx, state);
}

SEC("xdp")
int router(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = data;
	struct packet_state *state = packet_state();

	if (!state)
		return XDP_ABORTED;
	count(ctx, ETHERNET);
	if ((void *)(ethernet + 1) > data_end)
		return drop(DROP_TRUNCATED);
	__builtin_memset(state, 0, sizeof(*state));
	state->l3_offset = sizeof(*ethernet);
	return dispatch(ctx, ethernet->type);
}

/* One VLAN tag; a second one brings the packet here again. */
SEC("xdp")
int stage_vlan(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct packet_state *state = packet_state();
	struct vlan_tag *tag;

	if (!state)
		return XDP_ABORTED;
	if (state->tags >= 2)
		return drop(DROP_TAG_STACK);
	tag = data + (state->l3_offset & L3_OFFSET_MASK);
	if ((void *)(tag + 1) > data_end)
		return drop(DROP_TRUNCATED);
	count(ctx, state->tags ? QINQ : VLAN);
	state->vlan[state->tags & 1] = bpf_ntohs(tag->tci) & 0xfff;
	state->tags++;
	state->l3_offset += sizeof(*tag);
	return dispatch(ctx, tag->type);
}

/* Answers for the router's own address; all else is the stack's. */
SEC("xdp")
int stage_arp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = data;
	struct packet_state *state = packet_state();
	struct arp *arp;
	__be32 target;

	if (!state)
		return XDP_ABORTED;
	count(ctx, ARP);
	arp = data + (state->l3_offset & L3_OFFSET_MASK);
	if ((void *)(ethernet + 1) > data_end || (void *)(arp + 1) > data_end)
		return drop(DROP_TRUNCATED);
	if (arp->hardware_type != bpf_htons(1) || arp->protocol_type != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_length != 6 || arp->protocol_length != 4)
		return drop(DROP_BAD_HEADER);
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	if (arp->operation != bpf_htons(1) || target != router_ipv4)
		return XDP_PASS;

	arp->operation = bpf_htons(2);
	__builtin_memcpy(arp->target_ip, arp->sender_ip, sizeof(arp->target_ip));
	__builtin_memcpy(arp->sender_ip, &target, sizeof(arp->sender_ip));
	copy_mac(arp->target_mac, arp->sender_mac);
	copy_mac(arp->sender_mac, router_mac);
	turn_round(ethernet);
	return XDP_TX;
}

/* One's complement sum of a header of `words` 32-bit words: 0xffff where its checksum is right. */
static __always_inline __u32 header_sum(const __u16 *header, __u32 words, void *data_end)
{
	__u32 sum = 0;

	for (__u32 i = 0; i < 30; i++) {
		if (i >= 2 * words)
			break;
		barrier_var(data_end); /* else clang compares with data_end + 1, which the verifier forbids */
		if ((void *)(header + 1) > data_end)
			return 0;
		sum += *header++;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2. */
static __always_inline void map_address(__u8 *to, __be32 address)
{
	to[10] = 0xff;
	to[11] = 0xff;
	__builtin_memcpy(to + 12, &address, sizeof(address));
}

SEC("xdp")
int stage_ipv4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct packet_state *state = packet_state();
	struct ipv4 *ip;
	__u32 header, length, sum;

	if (!state)
		return XDP_ABORTED;
	count(ctx, IPV4);
	ip = data + (state->l3_offset & L3_OFFSET_MASK);
	if ((void *)(ip + 1) > data_end)
		return drop(DROP_TRUNCATED);
	header = (ip->version_ihl & 15) * 4;
	length = bpf_ntohs(ip->total_length);
	if (ip->version_ihl >> 4 != 4 || header < sizeof(*ip) || length < header)
		return drop(DROP_BAD_HEADER);
	if (state->l3_offset + length > length_of(ctx))
		return drop(DROP_TRUNCATED);
	if (header_sum((void *)ip, header / 4, data_end) != 0xffff)
		return drop(DROP_BAD_CHECKSUM);

	state->version = 4;
	state->l4_offset = state->l3_offset + header;
	state->l4_length = length - header;
	state->destination[0] = ip->destination;
	map_address(state->flow.source, ip->source);
	map_address(state->flow.destination, ip->destination);
	state->flow.protocol = ip->protocol;
	state->own = ip->destination == router_ipv4;
	/* Multicast and broadcast are not routed: mDNS, DHCP and the like. */
	state->local = state->own || (ip->destination & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) ||
		       ip->destination == bpf_htonl(0xffffffff);

	if (!state->local) {
		if (ip->ttl <= 1)
			return drop(DROP_TTL);
		/* RFC 1141: one less in the upper byte of the TTL's word is one more in the sum. */
		ip->ttl--;
		sum = ip->checksum + (__u32)bpf_htons(0x0100);
		ip->checksum = sum + (sum >> 16);
	}

	/* A later fragment has no transport header to look at. */
	if (ip->fragment & bpf_htons(0x1fff)) {
		count_flow(&state->flow, length_of(ctx));
		return police_and_forward(ctx, state);
	}
	switch (ip->protocol) {
	case PROTOCOL_TCP:
		tail_call_constant(ctx, stages, STAGE_TCP);
		break;
	case PROTOCOL_UDP:
		tail_call_constant(ctx, stages, STAGE_UDP);
		break;
	case PROTOCOL_ICMP:
		tail_call_constant(ctx, stages, STAGE_ICMP);
		break;
	default:
		count(ctx, OTHER);
		return police_and_forward(ctx, state);
	}
	__sync_fetch_and_add(&missed_stages, 1);
	return XDP_PASS;
}

SEC("xdp")
int stage_ipv6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct packet_state *state = packet_state();
	struct ipv6 *ip;
	__u32 length;
	__u8 own = 1, local;

	if (!state)
		return XDP_ABORTED;
	count(ctx, IPV6);
	ip = data + (state->l3_offset & L3_OFFSET_MASK);
	if ((void *)(ip + 1) > data_end)
		return drop(DROP_TRUNCATED);
	if ((ip->version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return drop(DROP_BAD_HEADER);
	length = bpf_ntohs(ip->payload_length);
	if (state->l3_offset + sizeof(*ip) + length > length_of(ctx))
		return drop(DROP_TRUNCATED);

	state->version = 6;
	state->l4_offset = state->l3_offset + sizeof(*ip);
	state->l4_length = length;
	state->flow.protocol = ip->next_header;
	__builtin_memcpy(state->flow.source, ip->source, sizeof(ip->source));
	__builtin_memcpy(state->flow.destination, ip->destination, sizeof(ip->destination));
	for (int i = 0; i < 4; i++) {
		state->destination[i] = ip->destination[i];
		if (ip->destination[i] != router_ipv6[i])
			own = 0;
	}
	/* Link-local and multicast addresses are not routed: neighbour discovery and the like. */
	local = own || (ip->destination[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000) ||
		(ip->destination[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
	state->own = own;
	state->local = local;
	if (!local) {
		if (ip->hop_limit <= 1)
			return drop(DROP_TTL);
		ip->hop_limit--;
	}

	switch (ip->next_header) {
	case PROTOCOL_TCP:
		tail_call_constant(ctx, stages, STAGE_TCP);
		break;
	case PROTOCOL_UDP:
		tail_call_constant(ctx, stages, STAGE_UDP);
		break;
	case PROTOCOL_ICMPV6:
		tail_call_constant(ctx, stages, STAGE_ICMPV6);
		break;
	default:
		count(ctx, OTHER);
		return police_and_forward(ctx, state);
	}
	__sync_fetch_and_add(&missed_stages, 1);
	return XDP_PASS;
}

SEC("xdp")
int stage_tcp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct packet_state *state = packet_state();
	struct tcp *tcp;
	__u32 header;
	__u8 flags;

	if (!state)
		return XDP_ABORTED;
	count(ctx, TCP);
	tcp = data + (state->l4_offset & L4_OFFSET_MASK);
	if ((void *)(tcp + 1) > data_end || state->l4_length < sizeof(*tcp))
		return drop(DROP_TRUNCATED);
	header = (tcp->data_offset >> 4) * 4;
	if (header < sizeof(*tcp) || header > state->l4_length)
		return drop(DROP_BAD_HEADER);
	flags = tcp->flags & TCP_ALL;
	if (flags == 0 || flags == TCP_ALL || (flags & (TCP_SYN | TCP_FIN)) == (TCP_SYN | TCP_FIN) ||
	    (flags & (TCP_SYN | TCP_RST)) == (TCP_SYN | TCP_RST))
		return drop(DROP_SCAN);
	state->flow.source_port = bpf_ntohs(tcp->source_port);
	state->flow.destination_port = bpf_ntohs(tcp->destination_port);
	count_flow(&state->flow, length_of(ctx));
	return police_and_forward(ctx, state);
}

SEC("xdp")
int stage_udp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct packet_state *state = packet_state();
	struct udp *udp;
	__u32 length;

	if (!state)
		return XDP_ABORTED;
	count(ctx, UDP);
	udp = data + (state->l4_offset & L4_OFFSET_MASK);
	if ((void *)(udp + 1) > data_end || state->l4_length < sizeof(*udp))
		return drop(DROP_TRUNCATED);
	length = bpf_ntohs(udp->length);
	if (length < sizeof(*udp) || length > state->l4_length || udp->destination_port == 0)
		return drop(DROP_BAD_HEADER);
	state->flow.source_port = bpf_ntohs(udp->source_port);
	state->flow.destination_port = bpf_ntohs(udp->destination_port);
	count_flow(&state->flow, length_of(ctx));
	return police_and_forward(ctx, state);
}

/* RFC 1624 for a type that changes while the code stays. */
static __always_inline void change_type(struct icmp *icmp, __u8 type)
{
	__u32 sum = (__u16)~icmp->checksum + (__u32)(__u16)~bpf_htons(icmp->type << 8) + bpf_htons(type << 8);

	sum = (sum & 0xffff) + (sum >> 16);
	icmp->checksum = ~((sum & 0xffff) + (sum >> 16));
	icmp->type = type;
}

SEC("xdp")
int stage_icmp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = data;
	struct packet_state *state = packet_state();
	struct ipv4 *ip;
	struct icmp *icmp;
	__be32 source;

	if (!state)
		return XDP_ABORTED;
	count(ctx, ICMP);
	ip = data + (state->l3_offset & L3_OFFSET_MASK);
	icmp = data + (state->l4_offset & L4_OFFSET_MASK);
	if ((void *)(ethernet + 1) > data_end || (void *)(ip + 1) > data_end || (void *)(icmp + 1) > data_end ||
	    state->l4_length < 8)
		return drop(DROP_TRUNCATED);
	if (!state->own || icmp->type != ICMP_ECHO_REQUEST)
		return police_and_forward(ctx, state);

	change_type(icmp, ICMP_ECHO_REPLY);
	source = ip->source;
	ip->source = ip->destination;
	ip->destination = source;
	turn_round(ethernet);
	return XDP_TX;
}

SEC("xdp")
int stage_icmpv6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = data;
	struct packet_state *state = packet_state();
	struct ipv6 *ip;
	struct icmp *icmp;

	if (!state)
		return XDP_ABORTED;
	count(ctx, ICMPV6);
	ip = data + (state->l3_offset & L3_OFFSET_MASK);
	icmp = data + (state->l4_offset & L4_OFFSET_MASK);
	if ((void *)(ethernet + 1) > data_end || (void *)(ip + 1) > data_end || (void *)(icmp + 1) > data_end ||
	    state->l4_length < 4)
		return drop(DROP_TRUNCATED);
	if (!state->own || icmp->type != ICMPV6_ECHO_REQUEST)
		return police_and_forward(ctx, state);

	/* The two addresses change places: the sum over the pseudo-header stays. */
	change_type(icmp, ICMPV6_ECHO_REPLY);
	for (int i = 0; i < 4; i++) {
		__be32 source = ip->source[i];

		ip->source[i] = ip->destination[i];
		ip->destination[i] = source;
	}
	turn_round(ethernet);
	return XDP_TX;
}

/* Not in any slot at first: a policy to put into untagged_policy or tagged_policy. It lets no TCP connection begin. */
SEC("xdp")
int policy_no_new_tcp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct packet_state *state = packet_state();
	struct tcp *tcp;

	if (!state)
		return XDP_ABORTED;
	tcp = data + (state->l4_offset & L4_OFFSET_MASK);
	if (state->flow.protocol == PROTOCOL_TCP && (void *)(tcp + 1) <= data_end && (tcp->flags & TCP_SYN))
		return XDP_DROP;
	return forward(ctx, state);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
