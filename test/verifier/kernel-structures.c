/* The kernel's types over memory that is not its own: the packet and the stack. CO-RE gives ids and offsets. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern void *bpf_rdonly_cast(const void *object, __u32 type) __attribute__((section(".ksyms")));
/* As bpf_core_type_id_kernel. */
#define TYPE_OF_KERNEL(type) __builtin_btf_type_id(*(type *)0, 1)
#define CORE __attribute__((preserve_access_index))

struct ethhdr {
	unsigned char h_dest[6];
	unsigned short h_proto;
} CORE;
struct iphdr {
	__u8 ttl;
	__u8 protocol;
	__u32 saddr;
} CORE;
struct list_head {
	struct list_head *next, *prev;
} CORE;

SEC("xdp") int packet(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct ethhdr *ethernet = bpf_rdonly_cast(data, TYPE_OF_KERNEL(struct ethhdr));
	struct iphdr *ip = bpf_rdonly_cast(data + 14, TYPE_OF_KERNEL(struct iphdr));
	return ethernet->h_proto * 3 + ethernet->h_dest[5] * 5 + ip->ttl * 7 + ip->protocol * 11 + ip->saddr;
}

SEC("xdp") int list(struct xdp_md *ctx)
{
	long items[3][2] = {};
	items[0][0] = (long)items[1];
	items[1][0] = (long)items[2];
	struct list_head *head = bpf_rdonly_cast(items, TYPE_OF_KERNEL(struct list_head));
	int length = 0;
	for (int i = 0; i < 8 && head; i++) {
		head = head->next;
		length++;
	}
	/* Nothing is at address 0. */
	head = bpf_rdonly_cast(0, TYPE_OF_KERNEL(struct list_head));
	return length * 10 + (head->next == 0) + (head->next->prev->next == 0);
}

SEC("xdp") int bad_beyond(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = bpf_rdonly_cast(ctx, TYPE_OF_KERNEL(struct ethhdr));
	return *((unsigned char *)ethernet + 14);
}

char LICENSE[] SEC("license") = "GPL";
