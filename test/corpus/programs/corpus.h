/* What most programs of the corpus share: headers, a cursor over the packet, checksums. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NOINLINE __attribute__((noinline))

struct vlan_header {
	__be16 tci;
	__be16 inner;
};

/* <linux/icmp.h> would need the C library's headers. */
struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	union {
		struct {
			__be16 id, sequence;
		} echo;
		struct {
			__be16 unused, mtu;
		} frag;
	} un;
};
enum { ICMP_ECHOREPLY = 0, ICMP_DEST_UNREACH = 3, ICMP_FRAG_NEEDED = 4, ICMP_ECHO = 8 };

struct cursor {
	void *at;
	void *end;
};

static __always_inline void *data_of(struct xdp_md *ctx) { return (void *)(long)ctx->data; }
static __always_inline void *end_of(struct xdp_md *ctx) { return (void *)(long)ctx->data_end; }

static __always_inline struct cursor cursor_of(struct xdp_md *ctx)
{
	return (struct cursor){ .at = data_of(ctx), .end = end_of(ctx) };
}

/* The next `size` bytes, or 0 where the packet ends before. */
static __always_inline void *take(struct cursor *cursor, __u32 size)
{
	void *here = cursor->at;
	if (here + size > cursor->end) return 0;
	cursor->at = here + size;
	return here;
}

static __always_inline int is_vlan(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#define LICENSE char _license[] SEC("license") = "GPL"
