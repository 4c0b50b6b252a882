// Does to an arena what packets ask for.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define __arena __attribute__((address_space(1)))
#define MAP_TYPE_ARENA 33
#define PAGES 3
#define OPERATIONS 8

struct {
  __uint(type, MAP_TYPE_ARENA);
  __uint(map_flags, 1 << 10);
  __uint(max_entries, PAGES);
} arena SEC(".maps");

__u64 __arena memory[PAGES * 512];

struct operation {
  __u32 kind;
  __u32 offset;
  __u64 value;
};

#define ON(kind, statement)                                                                                                     \
  case kind: {                                                                                                                 \
    statement;                                                                                                                 \
    break;                                                                                                                     \
  }
#define AT(type) (*(volatile type __arena *)((char __arena *)memory + op->offset))
// The x86-64 kernel takes and, or, xor on arenas without the old value only.
#define ATOMIC(type) ((type __arena *)memory + op->offset / sizeof(type))

SEC("tc") int operate(struct __sk_buff *skb) {
  struct operation *ops = (void *)(long)skb->data;
  __u64 sum = 0;
  if ((void *)(ops + OPERATIONS) > (void *)(long)skb->data_end) return 0;
  for (int i = 0; i < OPERATIONS; i++) {
    struct operation *op = ops + i;
    sum *= 31;
    switch (op->kind) {
      ON(0, sum += AT(__u8))
      ON(1, sum += AT(__u16))
      ON(2, sum += AT(__u32))
      ON(3, sum += AT(__u64))
      ON(4, AT(__u8) = op->value)
      ON(5, AT(__u16) = op->value)
      ON(6, AT(__u32) = op->value)
      ON(7, AT(__u64) = op->value)
      ON(8, sum += AT(__s8))
      ON(9, sum += AT(__s16))
      ON(10, sum += AT(__s32))
      ON(11, sum += __sync_fetch_and_add(ATOMIC(__u64), op->value))
      ON(12, __atomic_fetch_or(ATOMIC(__u32), (__u32)op->value, __ATOMIC_RELAXED))
      ON(13, __atomic_fetch_xor(ATOMIC(__u64), op->value, __ATOMIC_RELAXED))
      ON(14, sum += __sync_lock_test_and_set(ATOMIC(__u32), (__u32)op->value))
      ON(15, sum += __sync_val_compare_and_swap(ATOMIC(__u64), op->value & 3, op->value))
      ON(16, __atomic_fetch_and(ATOMIC(__u64), op->value, __ATOMIC_RELAXED))
    }
    sum ^= sum >> 32;
  }
  return sum;
}

char LICENSE[] SEC("license") = "GPL";
