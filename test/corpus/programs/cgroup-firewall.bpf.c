/* Rules in read-only data, per direction; sees packets from the network header on. */
#include "corpus.h"

struct rule {
	__be32 network, mask;
	__u16 port_low, port_high;
	__u8 protocol;
	__u8 allow;
	char name[10];
};

const volatile struct rule rules[] = {
	{ bpf_htonl(0x0a000000), bpf_htonl(0xff000000), 0, 65535, 0, 1, "ten" },
	{ bpf_htonl(0xc0000200), bpf_htonl(0xffffff00), 80, 443, IPPROTO_TCP, 1, "web" },
	{ bpf_htonl(0xc0000200), bpf_htonl(0xffffff00), 53, 53, IPPROTO_UDP, 1, "dns" },
	{ 0, 0, 0, 1023, IPPROTO_UDP, 0, "low ports" },
	{ 0, 0, 0, 65535, IPPROTO_ICMP, 1, "ping" },
};
#define RULES (sizeof(rules) / sizeof(*rules))

struct hits {
	__u64 packets, bytes;
	char name[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct hits);
	__uint(max_entries, RULES + 1);
} hits SEC(".maps");

const volatile int default_allow = 0;

static __always_inline int decide(struct __sk_buff *skb, int egress)
{
	struct iphdr ip;
	__be16 ports[2] = {};
	__u32 index;
	int allow = default_allow;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5) return 1;
	if (ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP)
		bpf_skb_load_bytes(skb, ip.ihl * 4, ports, sizeof(ports));
	__be32 peer = egress ? ip.daddr : ip.saddr;
	__u16 port = bpf_ntohs(ports[1]);
	for (index = 0; index < RULES; index++) {
		const volatile struct rule *rule = &rules[index];
		if ((peer & rule->mask) != rule->network) continue;
		if (rule->protocol && rule->protocol != ip.protocol) continue;
		if (port < rule->port_low || port > rule->port_high) continue;
		allow = rule->allow;
		break;
	}
	struct hits *entry = bpf_map_lookup_elem(&hits, &index);
	if (!entry) return 0;
	entry->packets++;
	entry->bytes += skb->len;
	if (index < RULES)
		for (int i = 0; i < 10; i++) entry->name[i] = rules[index].name[i];
	return allow;
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	return decide(skb, 0);
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	if (data + 20 > end) return 0;
	skb->mark = *(__u8 *)(data + 9);
	return decide(skb, 1) | (skb->mark == IPPROTO_TCP ? 2 : 0);
}

LICENSE;
