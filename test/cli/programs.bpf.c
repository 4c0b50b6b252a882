/* One program of each kind that the command line has something of its own to say about. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} jumps SEC(".maps");

__u64 seen;

SEC("xdp")
int entry(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&seen, 1);
	bpf_tail_call(ctx, &jumps, 1);
	return XDP_PASS;
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("xdp")
int chatty(struct xdp_md *ctx)
{
	bpf_printk("rx queue %d", ctx->rx_queue_index);
	return XDP_PASS;
}

/* Reads the packet without looking where it ends. */
SEC("xdp")
int unchecked(struct xdp_md *ctx)
{
	return *(__u8 *)(long)ctx->data;
}

/* One byte longer in front. */
SEC("xdp")
int longer(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -1) ? XDP_ABORTED : XDP_TX;
}

SEC("tc")
int large(struct __sk_buff *skb)
{
	return skb->len > 60 ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("raw")
unsigned long first_byte(const unsigned char *memory, unsigned long size)
{
	return size == 0 ? 1000 : memory[0];
}

SEC("kprobe/vfs_read")
int probe(void *ctx)
{
	return 0;
}

SEC("nonsense")
int unnamed(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
