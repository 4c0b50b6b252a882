/* skb fields and helpers that change the packet's shape: VLAN tags, room, tail and head; redirection by tag. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __s32);
	__uint(max_entries, 64);
} errors SEC(".maps");

static NOINLINE int note(__u32 key, int error)
{
	__s32 value = error;
	if (error) bpf_map_update_elem(&errors, &key, &value, BPF_ANY);
	return error;
}

SEC("tc")
int push(struct __sk_buff *skb)
{
	if (note(1, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 100 + (skb->len & 7)))) return TC_ACT_SHOT;
	skb->mark = skb->vlan_present << 16 | skb->vlan_tci;
	if (skb->len & 1 && note(2, bpf_skb_vlan_pop(skb))) return TC_ACT_SHOT;
	return TC_ACT_OK;
}

SEC("tc")
int room(struct __sk_buff *skb)
{
	if (note(3, bpf_skb_adjust_room(skb, 8, BPF_ADJ_ROOM_NET, 0))) return TC_ACT_SHOT;
	__u8 filler[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	if (note(4, bpf_skb_store_bytes(skb, ETH_HLEN + 20, filler, sizeof(filler), BPF_F_INVALIDATE_HASH))) return TC_ACT_SHOT;
	return TC_ACT_OK;
}

SEC("tc")
int tail(struct __sk_buff *skb)
{
	__u32 length = skb->len;
	if (note(5, bpf_skb_change_tail(skb, length + 10, 0))) return TC_ACT_SHOT;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (data + 60 > end) return skb->len - length;
	*(__u16 *)(data + 58) = skb->len;
	if (note(6, bpf_skb_change_tail(skb, 60, 0))) return TC_ACT_SHOT;
	return skb->len == 60 ? bpf_redirect(9, 0) : TC_ACT_SHOT;
}

LICENSE;
