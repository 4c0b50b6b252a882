// Functions that a load from the packet or a tail call may end early: what they may return, and what that comes to.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 2);
  __uint(key_size, 4);
  __uint(value_size, 4);
} targets SEC(".maps");

#define NOINLINE __attribute__((noinline))

unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long offset) asm("llvm.bpf.load.half");

enum answer { NO, YES };
int seen;

static NOINLINE int byte_at_20(struct __sk_buff *skb) { return load_byte(skb, 20) + 100; }
static NOINLINE long half_at(struct __sk_buff *skb, unsigned at) { return load_half(skb, at & 63) + 1000; }
NOINLINE int global_byte(struct __sk_buff *skb, int more) { return load_byte(skb, 30) + more; }
static NOINLINE enum answer is_zero(struct __sk_buff *skb) { return load_byte(skb, 40) == 0 ? YES : NO; }
static NOINLINE void note(struct __sk_buff *skb) { seen = load_byte(skb, 0); }
static NOINLINE void *address(struct __sk_buff *skb) { return (void *)(long)load_byte(skb, 0); }

static NOINLINE int hop(struct __sk_buff *skb) {
  bpf_tail_call(skb, &targets, 0);
  return seen + 5;
}
static NOINLINE _Bool hop_bool(struct __sk_buff *skb) {
  bpf_tail_call(skb, &targets, 1);
  return seen != 0;
}
static NOINLINE void hop_silently(struct __sk_buff *skb) {
  bpf_tail_call(skb, &targets, 0);
  seen = 1;
}
static NOINLINE void *hop_address(struct __sk_buff *skb) {
  bpf_tail_call(skb, &targets, 0);
  return (void *)(long)seen;
}

SEC("tc") int from_static(struct __sk_buff *skb) { return byte_at_20(skb) + 1; }
SEC("tc") int from_global(struct __sk_buff *skb) { return global_byte(skb, 7) + 1; }
SEC("tc") int from_long(struct __sk_buff *skb) { return half_at(skb, skb->mark + 12) + 1; }
SEC("tc") int from_enum(struct __sk_buff *skb) { return is_zero(skb) == YES ? 10 : 20; }
SEC("socket") int from_filter(struct __sk_buff *skb) { return byte_at_20(skb) + (int)half_at(skb, 50); }
SEC("tc") int after_hop(struct __sk_buff *skb) { return hop(skb) + 1; }
SEC("tc") int after_bool_hop(struct __sk_buff *skb) { return hop_bool(skb) + 30; }
SEC("tc") int target(struct __sk_buff *skb) { return 77; }

SEC("tc") int bad_void_load(struct __sk_buff *skb) { note(skb); return 0; }
SEC("tc") int bad_pointer_load(struct __sk_buff *skb) { return (long)address(skb); }
SEC("tc") int bad_void_hop(struct __sk_buff *skb) { hop_silently(skb); return 0; }
SEC("tc") int bad_pointer_hop(struct __sk_buff *skb) { return (long)hop_address(skb); }
