/* The XDP helpers that copy: load_bytes, store_bytes, the length; growth at both ends; redirection through maps. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 8);
} devices SEC(".maps");

__s64 results[8];

SEC("xdp")
int copies(struct xdp_md *ctx)
{
	__u8 buffer[64] = {};
	__u64 length = bpf_xdp_get_buff_len(ctx);
	__u32 size = length & 31;

	results[0] = bpf_xdp_load_bytes(ctx, 4, buffer, 40);
	results[1] = bpf_xdp_load_bytes(ctx, size, buffer + 8, (size & 7) + 1);
	results[2] = bpf_xdp_store_bytes(ctx, size * 2, buffer, size + 1);
	results[3] = bpf_xdp_load_bytes(ctx, 0x10000, buffer, 1);
	results[4] = bpf_xdp_store_bytes(ctx, length - 1, buffer, 1);
	results[5] = length;
	return results[2] ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int resize(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data;
	results[0] = bpf_xdp_adjust_tail(ctx, 64);
	results[1] = bpf_xdp_adjust_head(ctx, 4);
	results[2] = bpf_xdp_adjust_head(ctx, -100);
	results[3] = bpf_xdp_adjust_meta(ctx, -32);
	results[4] = bpf_xdp_adjust_head(ctx, -200);
	results[5] = bpf_xdp_adjust_meta(ctx, 8);
	results[6] = bpf_xdp_adjust_tail(ctx, -(int)(length / 2));
	results[7] = bpf_xdp_adjust_tail(ctx, 5000);

	void *meta = (void *)(long)ctx->data_meta, *data = data_of(ctx), *end = end_of(ctx);
	if (meta + 8 <= data) *(__u64 *)meta = length;
	if (data + 128 > end) return XDP_TX;
	__builtin_memset(data, 0x5a, 100);
	return XDP_PASS;
}

SEC("xdp")
int devices_empty(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	if (data + 14 > end) return XDP_ABORTED;
	return bpf_redirect_map(&devices, *(__u8 *)data & 15, *(__u8 *)(data + 1) & 3);
}

SEC("xdp")
int interface(struct xdp_md *ctx)
{
	return bpf_redirect(ctx->ingress_ifindex + 4, 0);
}

LICENSE;
