/* A pipeline of two programs that notice when they are not of one build. VERSION is 1 to 3: it decides the verdict. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef SLOT
#define SLOT 1
#endif
#ifndef ENTRIES
#define ENTRIES 4
#endif

int stage(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, int (void *));
} jumps SEC(".maps") = {
	.values = { [SLOT] = (void *)&stage },
};

/* Counted by all builds: kept. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* As large as the build wants it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} own SEC(".maps");

static __always_inline void count(void *map)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(map, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("xdp")
int stage(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 1 > end || *data != VERSION)
		return XDP_ABORTED;
	return VERSION == 1 ? XDP_DROP : VERSION == 2 ? XDP_PASS : XDP_TX;
}

SEC("xdp")
int entry(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	count(&seen);
	count(&own);
#ifdef UNCHECKED
	data[0] = VERSION;
#else
	if (data + 1 <= end)
		data[0] = VERSION;
#endif
	bpf_tail_call(ctx, &jumps, 1);
	return XDP_ABORTED;
}

char _license[] SEC("license") = "GPL";
