// Programs that drain a user ring buffer, and what the verifier refuses of them: the kernel's verdicts and results are asked for.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
  __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
  __uint(max_entries, 4096);
} ring SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} output SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4);
  __type(key, __u32);
  __type(value, __u64);
} array SEC(".maps");

extern __u32 bpf_dynptr_size(const struct bpf_dynptr *p) __ksym;
extern int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone) __ksym;

struct context {
  __u64 sum;
  __u32 flags;
  __u32 inner;
};

static long add(struct bpf_dynptr *record, struct context *ctx) {
  __u8 bytes[4] = {};
  __u32 size = bpf_dynptr_size(record);
  if (bpf_dynptr_read(bytes, 4, record, 0, 0) < 0) bpf_dynptr_read(bytes, 1, record, 0, 0);
  ctx->sum = ctx->sum * 31 + size * 1000 + bytes[0] + bytes[1] + bytes[2] + bytes[3];
  return bytes[0] == 0xff;
}

// Packet: flags in its second byte.
#define RESULT(drained) ((drained) < 0 ? (drained) : (long)((ctx.sum << 8) | (drained)))
SEC("tc") int drain(struct __sk_buff *skb) {
  struct context ctx = {};
  __u8 flags = 0;
  bpf_skb_load_bytes(skb, 20, &flags, 1);
  long drained = bpf_user_ringbuf_drain(&ring, add, &ctx, flags);
  return RESULT(drained);
}
SEC("xdp") int drain_xdp(struct xdp_md *xdp) {
  struct context ctx = {};
  long drained = bpf_user_ringbuf_drain(&ring, add, &ctx, 0);
  return RESULT(drained);
}

SEC("action") int drain_action(struct __sk_buff *skb) {
  struct context ctx = {};
  long drained = bpf_user_ringbuf_drain(&ring, add, &ctx, 0);
  return RESULT(drained);
}
SEC("socket") int drain_socket(struct __sk_buff *skb) {
  struct context ctx = {};
  long drained = bpf_user_ringbuf_drain(&ring, add, &ctx, 0);
  return RESULT(drained);
}
// May answer only 0 or 1.
SEC("cgroup_skb/ingress") int drain_cgroup(struct __sk_buff *skb) {
  struct context ctx = {};
  long drained = bpf_user_ringbuf_drain(&ring, add, &ctx, 0);
  return RESULT(drained) & 1;
}

static long nothing(struct bpf_dynptr *record, void *ctx) { return 0; }
static long again(struct bpf_dynptr *record, struct context *ctx) {
  ctx->inner = bpf_user_ringbuf_drain(&ring, nothing, 0, 0);
  return 0;
}
SEC("tc") int nested(struct __sk_buff *skb) {
  struct context ctx = {};
  bpf_user_ringbuf_drain(&ring, again, &ctx, 0);
  return ctx.inner;
}

static long takes_slice(struct bpf_dynptr *record, struct context *ctx) {
  __u64 *slice = bpf_dynptr_data(record, 0, 8);
  if (!slice) return 1;
  ctx->sum += *slice;
  *slice = 7;
  return 0;
}
SEC("tc") int slices(struct __sk_buff *skb) {
  struct context ctx = {};
  bpf_user_ringbuf_drain(&ring, takes_slice, &ctx, 0);
  return ctx.sum;
}
static long writes(struct bpf_dynptr *record, struct context *ctx) {
  __u32 value = 42;
  ctx->sum += bpf_dynptr_write(record, 0, &value, 4, 0);
  bpf_dynptr_read(&value, 4, record, 0, 0);
  ctx->sum = ctx->sum * 100 + value;
  return 0;
}
SEC("tc") int writes_through(struct __sk_buff *skb) {
  struct context ctx = {};
  bpf_user_ringbuf_drain(&ring, writes, &ctx, 0);
  return ctx.sum;
}
static long clones(struct bpf_dynptr *record, struct context *ctx) {
  struct bpf_dynptr copy;
  bpf_dynptr_clone(record, &copy);
  ctx->sum += bpf_dynptr_size(&copy);
  return 0;
}
SEC("tc") int cloned(struct __sk_buff *skb) {
  struct context ctx = {};
  bpf_user_ringbuf_drain(&ring, clones, &ctx, 0);
  return ctx.sum;
}

// Refused from here on.

#define BAD(name, body)                                                                                                         \
  static long callback_##name(struct bpf_dynptr *record, struct context *ctx) { body }                                         \
  SEC("tc") int bad_##name(struct __sk_buff *skb) {                                                                            \
    struct context ctx = {};                                                                                                   \
    bpf_user_ringbuf_drain(&ring, callback_##name, &ctx, 0);                                                                   \
    return 0;                                                                                                                  \
  }
BAD(submit, bpf_ringbuf_submit_dynptr(record, 0); return 0;)
BAD(discard, bpf_ringbuf_discard_dynptr(record, 0); return 0;)
BAD(return, return 2;)
BAD(load, return *(volatile __u64 *)record & 1;)
BAD(store, *(volatile __u64 *)record = 1; return 0;)
BAD(before, bpf_dynptr_data((void *)record - 16, 0, 8); return 0;)
BAD(behind, bpf_dynptr_data((void *)record + 8, 0, 8); return 0;)
BAD(reserve, bpf_ringbuf_reserve_dynptr(&output, 8, 0, record); return 0;)
BAD(spilled, struct bpf_dynptr *volatile kept = record; __u64 *p = bpf_dynptr_data(kept, 0, 8); return p ? *p & 1 : 0;)
BAD(null_context, struct context *none = 0; asm volatile("" : "+r"(none)); none->sum = 1; return 0;)
BAD(beyond_slice, __u64 *p = bpf_dynptr_data(record, 0, 8); return p ? p[1] & 1 : 0;)

SEC("tc") int bad_map(struct __sk_buff *skb) { return bpf_user_ringbuf_drain(&output, nothing, 0, 0); }
static long each(void *map, void *key, void *value, void *ctx) { return 0; }
SEC("tc") int bad_walk(struct __sk_buff *skb) { return bpf_for_each_map_elem(&ring, each, 0, 0); }
SEC("tc") int bad_lookup(struct __sk_buff *skb) {
  __u64 key = 0;
  return bpf_map_lookup_elem(&ring, &key) != 0;
}
SEC("tc") int bad_output(struct __sk_buff *skb) {
  __u64 key = 0;
  return bpf_ringbuf_output(&ring, &key, 8, 0);
}
