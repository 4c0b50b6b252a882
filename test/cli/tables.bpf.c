/* What packets lead to in the tables of the command line: a route, and a socket. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/in.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} found SEC(".maps");

/* Of these nothing is used but what the command line sets. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 4);
} samples SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

static struct iphdr *ipv4(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	return ip;
}

static void count(__u32 key)
{
	__u64 one = 1, *value = bpf_map_lookup_elem(&found, &key);

	if (value)
		*value += 1;
	else
		bpf_map_update_elem(&found, &key, &one, BPF_ANY);
}

/* By the interface that the route leaves by, or 1000 and the answer without one. */
SEC("xdp")
int routed(struct xdp_md *ctx)
{
	struct bpf_fib_lookup fib = { .family = AF_INET, .ifindex = 1 };
	struct iphdr *ip = ipv4(ctx);
	long answer;

	if (!ip)
		return XDP_DROP;
	fib.ipv4_src = ip->saddr;
	fib.ipv4_dst = ip->daddr;
	answer = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	count(answer ? 1000 + answer : fib.ifindex);
	return answer ? XDP_PASS : XDP_TX;
}

/* By the mark of the socket, or 1000 without one. */
SEC("xdp")
int delivered(struct xdp_md *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct iphdr *ip = ipv4(ctx);
	struct bpf_sock *socket;
	struct tcphdr *tcp;

	if (!ip || ip->protocol != IPPROTO_TCP || ip->ihl != 5)
		return XDP_DROP;
	tcp = (void *)(ip + 1);
	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	tuple.ipv4.saddr = ip->saddr;
	tuple.ipv4.daddr = ip->daddr;
	tuple.ipv4.sport = tcp->source;
	tuple.ipv4.dport = tcp->dest;
	socket = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!socket) {
		count(1000);
		return XDP_PASS;
	}
	count(socket->mark);
	bpf_sk_release(socket);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
