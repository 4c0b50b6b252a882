/* Skips up to four VLAN tags and counts packets by EtherType and by tag depth. */
#include "corpus.h"

#define MAX_TAGS 4

struct stats {
	__u64 packets;
	__u64 bytes;
	__u16 last_vlan;
	__u8 depth;
	__u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u16);
	__type(value, struct stats);
	__uint(max_entries, 32);
} by_type SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, MAX_TAGS + 2);
} by_depth SEC(".maps");

SEC("xdp")
int vlan_parser(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_of(ctx);
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	__u16 vlan = 0;
	__u32 depth = 0;
	__u16 type;

	if (!eth) return XDP_ABORTED;
	type = eth->h_proto;
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		struct vlan_header *tag;
		if (!is_vlan(type)) break;
		tag = take(&cursor, sizeof(*tag));
		if (!tag) return XDP_DROP;
		vlan = bpf_ntohs(tag->tci) & 0xfff;
		type = tag->inner;
		depth++;
	}

	__u64 *count = bpf_map_lookup_elem(&by_depth, &depth);
	if (count) *count += 1;

	__u16 key = bpf_ntohs(type);
	struct stats *stats = bpf_map_lookup_elem(&by_type, &key);
	if (!stats) {
		struct stats fresh = { .packets = 1, .bytes = ctx->data_end - ctx->data, .last_vlan = vlan, .depth = depth };
		if (bpf_map_update_elem(&by_type, &key, &fresh, BPF_NOEXIST)) return XDP_DROP;
		return XDP_PASS;
	}
	stats->packets++;
	stats->bytes += ctx->data_end - ctx->data;
	stats->last_vlan = vlan;
	if (depth > stats->depth) stats->depth = depth;
	return depth == MAX_TAGS ? XDP_DROP : XDP_PASS;
}

LICENSE;
