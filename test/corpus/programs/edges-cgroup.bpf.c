/* Programs of a cgroup: may a packet pass? Seen from the network header on. */
#include "corpus.h"

struct bucket {
	__u32 packets;
	__u32 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u8);
	__type(value, struct bucket);
	__uint(max_entries, 256);
} protocols SEC(".maps");

static __u32 budget = 2000;
static const volatile __u8 denied[] = { IPPROTO_ICMP, 47, 50, 51, 132 };

static __always_inline int ipv4(struct __sk_buff *skb, struct iphdr *ip)
{
	return !bpf_skb_load_bytes(skb, 0, ip, sizeof(*ip)) && ip->version == 4;
}

SEC("cgroup_skb/ingress")
int small_only(struct __sk_buff *skb)
{
	return skb->len <= 1280;
}

SEC("cgroup_skb/ingress")
int no_fragments(struct __sk_buff *skb)
{
	struct iphdr ip;
	if (!ipv4(skb, &ip)) return 1;
	return !(ip.frag_off & bpf_htons(0x3fff));
}

SEC("cgroup_skb/ingress")
int allowed(struct __sk_buff *skb)
{
	struct iphdr ip;
	if (!ipv4(skb, &ip)) return 0;
	for (unsigned i = 0; i < sizeof(denied); i++)
		if (ip.protocol == denied[i]) return 0;
	return 1;
}

SEC("cgroup_skb/egress")
int within_budget(struct __sk_buff *skb)
{
	__u32 length = skb->len;
	if (length > budget) {
		budget += 500;
		return 0;
	}
	budget -= length;
	return 1;
}

SEC("cgroup_skb/egress")
int accounted(struct __sk_buff *skb)
{
	struct iphdr ip;
	struct bucket fresh = { 1, skb->len }, *bucket;
	if (!ipv4(skb, &ip)) return 1;
	__u8 key = ip.protocol;
	bucket = bpf_map_lookup_elem(&protocols, &key);
	if (!bucket) {
		bpf_map_update_elem(&protocols, &key, &fresh, BPF_ANY);
		return 1;
	}
	bucket->packets++;
	bucket->bytes += skb->len;
	return bucket->packets < 20;
}

SEC("cgroup_skb/egress")
int through_pointers(struct __sk_buff *skb)
{
	struct iphdr *ip = (void *)(long)skb->data;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end) return 0;
	__u32 header = ip->ihl * 4;
	if (header < sizeof(*ip)) return 0;
	__be16 *ports = (void *)ip + header;
	if ((void *)(ports + 2) > (void *)(long)skb->data_end) return 1;
	return bpf_ntohs(ports[1]) != 25;
}

LICENSE;
