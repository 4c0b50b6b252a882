/* variants: v3 v4 */
/* Reads the labels of a DNS question into a lower-case name and counts it; nested loops over bytes. */
#include "corpus.h"

#define LABELS 3
#define NAME 32

struct question {
	char name[NAME];
	__u16 type;
	__u8 labels;
	__u8 truncated;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct question);
	__type(value, __u64);
	__uint(max_entries, 32);
} questions SEC(".maps");

const volatile __u16 dns_port = 53;
__u32 malformed;

SEC("xdp")
int dns(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_of(ctx);
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	struct iphdr *ip;
	struct udphdr *udp;
	struct question question = {};
	__u32 at = 0;

	if (!eth || eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
	ip = take(&cursor, sizeof(*ip));
	if (!ip || ip->protocol != IPPROTO_UDP) return XDP_PASS;
	udp = take(&cursor, sizeof(*udp));
	if (!udp || bpf_ntohs(udp->dest) != dns_port) return XDP_PASS;
	/* Whatever follows is taken for labels. */
	for (int label = 0; label < LABELS; label++) {
		__u8 *length = take(&cursor, 1);
		if (!length) {
			question.truncated = 1;
			break;
		}
		__u32 left = *length & 7;
		if (left == 0) break;
		question.labels++;
		for (int i = 0; i < 7; i++) {
			__u8 *byte;
			if (left-- == 0) break;
			byte = take(&cursor, 1);
			if (!byte) {
				question.truncated = 1;
				break;
			}
			char c = *byte;
			if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
			if (at < NAME) question.name[at & (NAME - 1)] = c;
			at++;
		}
	}
	if (question.truncated) malformed++;
	__be16 *type = take(&cursor, 2);
	if (type) question.type = bpf_ntohs(*type);
	__u64 one = 1, *count = bpf_map_lookup_elem(&questions, &question);
	if (count) {
		__sync_fetch_and_add(count, 1);
	} else {
		bpf_map_update_elem(&questions, &question, &one, BPF_ANY);
	}
	return question.labels > 2 ? XDP_DROP : XDP_PASS;
}

LICENSE;
