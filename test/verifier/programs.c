// Programs as people write them, for the verifier's test with real compilers: all must be accepted.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct flow {
  __u32 address;
  __u16 port;
  __u8 protocol;
  __u8 pad;
};
struct counters {
  __u64 packets;
  __u64 bytes;
  __u32 buckets[8];
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, struct flow);
  __type(value, struct counters);
} flows SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 256);
  __type(key, __u32);
  __type(value, struct counters);
} protocols SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 8);
  __type(key, __u32);
  __type(value, __u64);
} lengths SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 8);
  __type(key, __u32);
  __type(value, __u32);
} stages SEC(".maps");

const volatile __u32 limit = 10;
__u32 seen;
__u32 table[16] = {1, 2, 3, 4};

struct vlan {
  __be16 tci;
  __be16 protocol;
};

static __always_inline void *ethernet(void *data, void *end, __u16 *protocol) {
  struct ethhdr *header = data;
  void *at = header + 1;
  if (at > end) return 0;
  *protocol = header->h_proto;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    if (*protocol != bpf_htons(ETH_P_8021Q) && *protocol != bpf_htons(ETH_P_8021AD)) break;
    struct vlan *tag = at;
    if ((void *)(tag + 1) > end) return 0;
    *protocol = tag->protocol;
    at = tag + 1;
  }
  return at;
}

static __noinline int count(__u32 index, __u64 bytes) {
  struct counters *value = bpf_map_lookup_elem(&protocols, &index);
  if (!value) return 0;
  value->packets++;
  value->bytes += bytes;
  return 1;
}

SEC("xdp") int parse(struct xdp_md *ctx) {
  void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  struct flow flow = {};
  __u16 protocol;
  void *at = ethernet(data, end, &protocol);
  if (!at) return XDP_DROP;
  if (protocol == bpf_htons(ETH_P_IP)) {
    struct iphdr *ip = at;
    if ((void *)(ip + 1) > end || ip->ihl < 5) return XDP_DROP;
    flow.address = ip->saddr;
    flow.protocol = ip->protocol;
    at += ip->ihl * 4;
  } else if (protocol == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr *ip = at;
    if ((void *)(ip + 1) > end) return XDP_DROP;
    flow.address = ip->saddr.s6_addr32[3];
    flow.protocol = ip->nexthdr;
    at = ip + 1;
    for (int i = 0; i < 6; i++) {
      struct {
        __u8 next, length;
      } *extension = at;
      if (flow.protocol != 0 && flow.protocol != 60 && flow.protocol != 43) break;
      if ((void *)(extension + 1) > end) return XDP_DROP;
      flow.protocol = extension->next;
      at += (extension->length + 1) * 8;
    }
  } else {
    return XDP_PASS;
  }
  if (flow.protocol == IPPROTO_TCP) {
    struct tcphdr *tcp = at;
    if ((void *)(tcp + 1) > end) return XDP_DROP;
    flow.port = tcp->dest;
  } else if (flow.protocol == IPPROTO_UDP) {
    struct udphdr *udp = at;
    if ((void *)(udp + 1) > end) return XDP_DROP;
    flow.port = udp->dest;
  }
  struct counters *value = bpf_map_lookup_elem(&flows, &flow);
  if (!value) {
    struct counters first = {.packets = 1, .bytes = end - data};
    bpf_map_update_elem(&flows, &flow, &first, BPF_ANY);
  } else {
    __sync_fetch_and_add(&value->packets, 1);
    value->buckets[flow.port & 7]++;
  }
  count(flow.protocol, end - data);
  bpf_tail_call(ctx, &stages, flow.protocol & 7);
  return XDP_PASS;
}

SEC("xdp") int sum_words(struct xdp_md *ctx) {
  __u16 *word = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  __u32 sum = 0;
  for (int i = 0; i < 64; i++) {
    if (word + 1 > end) break;
    sum += *word++;
  }
  seen += sum;
  return sum & 1 ? XDP_PASS : XDP_DROP;
}

SEC("xdp") int switches(struct xdp_md *ctx) {
  void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (data + 20 > end) return 0;
  __u8 byte = *(__u8 *)(data + 3);
  __u32 entry = table[byte & 15];
  switch (byte) {
    case 0:
      return 1;
    case 1:
      return entry;
    case 2:
      return limit;
    case 3:
      count(3, 4);
      return 2;
    case 4: {
      char copy[32];
      __builtin_memcpy(copy, data, 20);
      return copy[0] & 3;
    }
    case 5:
      return table[limit & 15];
    case 6:
      return -1;
    case 7:
      return seen;
  }
  return entry > limit;
}

SEC("xdp") int sort(struct xdp_md *ctx) {
  void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  __u8 bytes[16] = {};
  if (data + 16 > end) return 0;
  __builtin_memcpy(bytes, data, 16);
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < 7 - i; j++)
      if (bytes[j] > bytes[j + 1]) {
        __u8 swap = bytes[j];
        bytes[j] = bytes[j + 1];
        bytes[j + 1] = swap;
      }
  return bytes[0] & 3;
}

SEC("xdp") int tcp_options(struct xdp_md *ctx) {
  void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  struct tcphdr *tcp = data + 34;
  if ((void *)(tcp + 1) > end) return 0;
  __u32 length = tcp->doff * 4;
  if (length < 20) return 0;
  __u8 *at = (void *)(tcp + 1), *stop = (void *)tcp + length;
  for (int i = 0; i < 10; i++) {
    if ((void *)(at + 1) > end || at >= stop || *at == 0) break;
    if (*at == 1) {
      at++;
      continue;
    }
    if ((void *)(at + 2) > end || at[1] < 2) return 0;
    if (*at == 2 && at[1] == 4) {
      if ((void *)(at + 4) > end) return 0;
      seen = at[2] << 8 | at[3];
      return 2;
    }
    at += at[1];
  }
  return 1;
}

SEC("tc") int hash_bytes(struct __sk_buff *skb) {
  char bytes[64];
  __u32 length = skb->len, hash = 0;
  if (length > sizeof(bytes)) length = sizeof(bytes);
  if (length < 1) return TC_ACT_OK;
  if (bpf_skb_load_bytes(skb, 0, bytes, length)) return TC_ACT_SHOT;
  for (int i = 0; i < sizeof(bytes); i++) {
    if (i >= length) break;
    hash = hash * 31 + bytes[i];
  }
  skb->mark = hash;
  skb->cb[0] = hash;
  return TC_ACT_OK;
}

SEC("tc") int rewrite(struct __sk_buff *skb) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct iphdr *ip = data + 14;
  if ((void *)(ip + 1) > end) return TC_ACT_OK;
  __be32 before = ip->daddr, after = before ^ 1;
  bpf_l3_csum_replace(skb, 14 + 10, before, after, 4);
  bpf_skb_store_bytes(skb, 14 + 16, &after, 4, 0);
  data = (void *)(long)skb->data;
  end = (void *)(long)skb->data_end;
  if (data + 34 > end) return TC_ACT_OK;
  ((char *)data)[0] ^= 1;
  return bpf_redirect(skb->ifindex, 0);
}

SEC("socket") int lengths_by_protocol(struct __sk_buff *skb) {
  __u32 key = skb->protocol & 7;
  __u64 *value = bpf_map_lookup_elem(&lengths, &key);
  if (value) *value += skb->len;
  return skb->len;
}

SEC("cgroup_skb/ingress") int only_tcp(struct __sk_buff *skb) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct iphdr *ip = data;
  if ((void *)(ip + 1) > end) return 0;
  return ip->protocol == IPPROTO_TCP;
}

struct loop_state {
  __u32 sum;
};
static long add(__u32 i, struct loop_state *state) {
  if (i > 100) return 1;
  state->sum += i;
  __u32 key = i & 7;
  struct counters *value = bpf_map_lookup_elem(&protocols, &key);
  if (value) value->packets += state->sum;
  return 0;
}
SEC("xdp") int loops(struct xdp_md *ctx) {
  struct loop_state state = {};
  bpf_loop(ctx->rx_queue_index, add, &state, 0);
  return state.sum & 3;
}

__noinline int global(struct xdp_md *ctx, __u32 x, struct counters *value) {
  if (!value) return 1;
  value->buckets[x & 7] = x;
  return ctx->rx_queue_index + x;
}
SEC("xdp") int calls_global(struct xdp_md *ctx) {
  struct counters value = {};
  int result = global(ctx, 5, &value);
  if (result > 3) return 0;
  return global(ctx, result, 0) + value.buckets[1];
}
