// Callbacks and what they may hold: the kernel's verdict is asked for each program; what is accepted runs there and here.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define MAP_FLAGS(name, kind, keys, entries, flags)                                                                             \
  struct {                                                                                                                      \
    __uint(type, kind);                                                                                                         \
    __uint(max_entries, entries);                                                                                               \
    __uint(map_flags, flags);                                                                                                   \
    __type(key, keys);                                                                                                          \
    __type(value, __u64);                                                                                                       \
  } name SEC(".maps")
#define MAP(name, kind, keys, entries) MAP_FLAGS(name, kind, keys, entries, 0)

MAP(array, BPF_MAP_TYPE_ARRAY, __u32, 10);
MAP(percpu, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, 6);
MAP(hash, BPF_MAP_TYPE_HASH, __u32, 64);
MAP(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, __u32, 64);
MAP(lru, BPF_MAP_TYPE_LRU_HASH, __u32, 64);
MAP(lru_percpu, BPF_MAP_TYPE_LRU_PERCPU_HASH, __u32, 64);
MAP(collected, BPF_MAP_TYPE_HASH, __u32, 64);
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 4);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u64);
} trie SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} ring SEC(".maps");
struct guarded {
  struct bpf_spin_lock lock;
  __u32 count;
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 3);
  __type(key, __u32);
  __type(value, struct guarded);
} locked SEC(".maps");

struct context {
  __u64 sum;
  __u64 calls;
  void *held;
};

static long add(void *map, __u32 *key, __u64 *value, struct context *ctx) {
  ctx->sum += *key * 1000 + *value;
  ctx->calls++;
  return 0;
}

#define FILL(map, count)                                                                                                        \
  for (__u32 i = 0; i < count; i++) {                                                                                           \
    __u32 key = i;                                                                                                              \
    __u64 value = i * i + 1;                                                                                                    \
    bpf_map_update_elem(&map, &key, &value, BPF_ANY);                                                                           \
  }

#define SUMS(map, count)                                                                                                        \
  SEC("tc") int sum_##map(struct __sk_buff *skb) {                                                                              \
    struct context ctx = {};                                                                                                    \
    FILL(map, count)                                                                                                            \
    long calls = bpf_for_each_map_elem(&map, add, &ctx, 0);                                                                     \
    return calls == ctx.calls ? ctx.sum * 100 + calls : -1;                                                                     \
  }
SUMS(array, 10)
SUMS(percpu, 6)
SUMS(hash, 20)
SUMS(percpu_hash, 20)
SUMS(lru, 20)
SUMS(lru_percpu, 20)

SEC("tc") int flags(struct __sk_buff *skb) {
  struct context ctx = {};
  return bpf_for_each_map_elem(&array, add, &ctx, 1);
}

SEC("tc") int empty(struct __sk_buff *skb) {
  struct context ctx = {};
  return bpf_for_each_map_elem(&collected, add, &ctx, 0);
}

static long third(void *map, __u32 *key, __u64 *value, void *ctx) { return *key == 3; }
SEC("tc") int stops(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, third, 0, 0); }

static long writes(void *map, __u32 *key, __u64 *value, void *ctx) {
  *value += 5;
  return 0;
}
SEC("tc") int writes_values(struct __sk_buff *skb) {
  struct context ctx = {};
  FILL(array, 10)
  bpf_for_each_map_elem(&array, writes, 0, 0);
  bpf_for_each_map_elem(&array, add, &ctx, 0);
  return ctx.sum;
}

static long deletes(void *map, __u32 *key, __u64 *value, struct context *ctx) {
  __u32 mine = *key;
  ctx->sum += mine;
  bpf_map_delete_elem(&hash, &mine);
  return 0;
}
SEC("tc") int deletes_each(struct __sk_buff *skb) {
  struct context ctx = {};
  FILL(hash, 40)
  long calls = bpf_for_each_map_elem(&hash, deletes, &ctx, 0);
  long left = bpf_for_each_map_elem(&hash, deletes, &ctx, 0);
  return ctx.sum * 10000 + calls * 100 + left;
}

static long replaces(void *map, __u32 *key, __u64 *value, struct context *ctx) {
  __u32 mine = *key;
  __u64 next = *value + 1;
  ctx->calls++;
  bpf_map_update_elem(&hash, &mine, &next, BPF_EXIST);
  return 0;
}
SEC("tc") int replaces_each(struct __sk_buff *skb) {
  struct context ctx = {};
  FILL(hash, 40)
  bpf_for_each_map_elem(&hash, replaces, &ctx, 0);
  long calls = ctx.calls;
  bpf_for_each_map_elem(&hash, add, &ctx, 0);
  return ctx.sum * 100 + calls;
}

static long copies(void *map, __u32 *key, __u64 *value, void *ctx) {
  bpf_map_update_elem(&collected, key, value, BPF_ANY);
  return 0;
}
SEC("tc") int key_and_value_as_arguments(struct __sk_buff *skb) {
  struct context ctx = {};
  FILL(array, 10)
  bpf_for_each_map_elem(&array, copies, 0, 0);
  bpf_for_each_map_elem(&collected, add, &ctx, 0);
  return ctx.sum;
}

static long inner(void *map, __u32 *key, __u64 *value, struct context *ctx) {
  ctx->sum += *value;
  return 0;
}
static long outer(void *map, __u32 *key, __u64 *value, struct context *ctx) {
  struct context mine = {};
  bpf_for_each_map_elem(&array, inner, &mine, 0);
  ctx->sum += mine.sum + *key;
  return 0;
}
SEC("tc") int nested(struct __sk_buff *skb) {
  struct context ctx = {};
  FILL(array, 10)
  bpf_for_each_map_elem(&percpu, outer, &ctx, 0);
  return ctx.sum;
}

static long locks(void *map, __u32 *key, struct guarded *value, void *ctx) {
  bpf_spin_lock(&value->lock);
  value->count++;
  bpf_spin_unlock(&value->lock);
  return 0;
}
SEC("tc") int locks_each(struct __sk_buff *skb) {
  __u32 key = 1;
  bpf_for_each_map_elem(&locked, locks, 0, 0);
  struct guarded *value = bpf_map_lookup_elem(&locked, &key);
  return value ? value->count : -1;
}

static long submits(__u32 index, void *ctx) {
  __u64 *record = bpf_ringbuf_reserve(&ring, 8, 0);
  if (!record) return 1;
  *record = index;
  bpf_ringbuf_discard(record, 0);
  return 0;
}
SEC("tc") int ringbuf_in_loop(struct __sk_buff *skb) { return bpf_loop(5, submits, 0, 0); }

SEC("tc") int ringbuf_around_loop(struct __sk_buff *skb) {
  struct context ctx = {};
  __u64 *record = bpf_ringbuf_reserve(&ring, 8, 0);
  if (!record) return -1;
  bpf_for_each_map_elem(&array, add, &ctx, 0);
  *record = ctx.sum;
  bpf_ringbuf_discard(record, 0);
  return ctx.calls;
}

static long takes(__u32 index, struct context *ctx) {
  ctx->held = bpf_ringbuf_reserve(&ring, 8, 0);
  return 1;
}
SEC("tc") int taken_in_loop(struct __sk_buff *skb) {
  struct context ctx = {};
  bpf_loop(1, takes, &ctx, 0);
  if (ctx.held) bpf_ringbuf_discard(ctx.held, 0);
  return 0;
}

MAP_FLAGS(colliding, BPF_MAP_TYPE_HASH, __u32, 1024, 1U << 6);
SEC("tc") int sum_colliding(struct __sk_buff *skb) {
  struct context ctx = {};
  long calls = bpf_for_each_map_elem(&colliding, add, &ctx, 0);
  return ctx.sum * 100 + calls;
}
static long deletes_colliding(void *map, __u32 *key, __u64 *value, struct context *ctx) {
  __u32 mine = *key;
  ctx->sum += mine;
  bpf_map_delete_elem(&colliding, &mine);
  return 0;
}
SEC("tc") int delete_colliding(struct __sk_buff *skb) {
  struct context ctx = {};
  long calls = bpf_for_each_map_elem(&colliding, deletes_colliding, &ctx, 0);
  return ctx.sum * 100 + calls;
}

// Refused from here on.

static long leaks(__u32 index, void *ctx) {
  __u64 *record = bpf_ringbuf_reserve(&ring, 8, 0);
  if (!record) return 1;
  *record = index;
  return 0;
}
SEC("tc") int bad_leak_in_loop(struct __sk_buff *skb) { return bpf_loop(5, leaks, 0, 0); }

static long leaks_each(void *map, __u32 *key, __u64 *value, void *ctx) {
  __u64 *record = bpf_ringbuf_reserve(&ring, 8, 0);
  if (!record) return 1;
  return 0;
}
SEC("tc") int bad_leak_in_for_each(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, leaks_each, 0, 0); }

static long gives_back(__u32 index, struct context *ctx) {
  if (ctx->held) bpf_ringbuf_discard(ctx->held, 0);
  return 1;
}
SEC("tc") int bad_release_in_loop(struct __sk_buff *skb) {
  struct context ctx = {};
  ctx.held = bpf_ringbuf_reserve(&ring, 8, 0);
  if (!ctx.held) return -1;
  bpf_loop(5, gives_back, &ctx, 0);
  return 0;
}

SEC("tc") int bad_taken_twice_in_loop(struct __sk_buff *skb) {
  struct context ctx = {};
  bpf_loop(2, takes, &ctx, 0);
  if (ctx.held) bpf_ringbuf_discard(ctx.held, 0);
  return 0;
}

static long changes_key(void *map, __u32 *key, __u64 *value, void *ctx) {
  *key = 1;
  return 0;
}
SEC("tc") int bad_key_write(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, changes_key, 0, 0); }

static long beyond_key(void *map, __u32 *key, __u64 *value, void *ctx) { return key[1] & 1; }
SEC("tc") int bad_key_read(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, beyond_key, 0, 0); }

static long beyond_value(void *map, __u32 *key, __u64 *value, void *ctx) { return value[1] & 1; }
SEC("tc") int bad_value_read(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, beyond_value, 0, 0); }

static long key_to_helper(void *map, __u32 *key, __u64 *value, void *ctx) {
  bpf_get_current_comm(key, 4);
  return 0;
}
SEC("tc") int bad_key_given_to_writer(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, key_to_helper, 0, 0); }

static long returns_two(void *map, __u32 *key, __u64 *value, void *ctx) { return 2; }
SEC("tc") int bad_return(struct __sk_buff *skb) { return bpf_for_each_map_elem(&array, returns_two, 0, 0); }

static long none(void *map, void *key, void *value, void *ctx) { return 0; }
SEC("tc") int bad_map_type(struct __sk_buff *skb) { return bpf_for_each_map_elem(&trie, none, 0, 0); }

static long keeps_lock(void *map, __u32 *key, struct guarded *value, void *ctx) {
  bpf_spin_lock(&value->lock);
  return 0;
}
SEC("tc") int bad_lock_kept(struct __sk_buff *skb) { return bpf_for_each_map_elem(&locked, keeps_lock, 0, 0); }

SEC("tc") int bad_walk_under_lock(struct __sk_buff *skb) {
  __u32 key = 1;
  struct guarded *value = bpf_map_lookup_elem(&locked, &key);
  if (!value) return 0;
  bpf_spin_lock(&value->lock);
  bpf_for_each_map_elem(&array, third, 0, 0);
  bpf_spin_unlock(&value->lock);
  return 0;
}

__attribute__((noinline)) int global(int x) { return x * 3; }
SEC("tc") int bad_global_under_lock(struct __sk_buff *skb) {
  __u32 key = 1;
  struct guarded *value = bpf_map_lookup_elem(&locked, &key);
  if (!value) return 0;
  bpf_spin_lock(&value->lock);
  value->count = global(skb->len);
  bpf_spin_unlock(&value->lock);
  return 0;
}
