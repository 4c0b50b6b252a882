// Fills a ring buffer and drains a user ring buffer, on several threads at once.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PRODUCERS 4
#define WORDS 6

struct record {
  __u32 producer;
  __u32 kind;
  __u64 number;
  __u64 words[WORDS];
};

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 16384);
} events SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
  __uint(max_entries, 16384);
} requests SEC(".maps");

enum { RESERVED, OUTPUT, DISCARDED, KINDS };

// Of each producer, which is one thread: what it numbered, and what became of it.
__u64 numbers[PRODUCERS];
__u64 lost[PRODUCERS];
__u64 discarded[PRODUCERS];

static void fill(struct record *record, __u32 producer, __u32 kind, __u64 number) {
  record->producer = producer;
  record->kind = kind;
  record->number = number;
  for (int i = 0; i < WORDS; i++) record->words[i] = (number << 8) + (producer << 4) + i;
}

// The interface of a packet is the number of its producer.
SEC("tc") int produce(struct __sk_buff *skb) {
  __u32 producer = skb->ifindex & (PRODUCERS - 1);
  __u64 number = numbers[producer]++;
  __u32 kind = number % KINDS;
  if (kind == OUTPUT) {
    struct record record;
    fill(&record, producer, kind, number);
    if (bpf_ringbuf_output(&events, &record, sizeof(record), 0)) lost[producer]++;
    return 0;
  }
  struct record *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
  if (!record) {
    lost[producer]++;
    return 0;
  }
  fill(record, producer, kind, number);
  if (kind == DISCARDED) {
    discarded[producer]++;
    bpf_ringbuf_discard(record, 0);
  } else
    bpf_ringbuf_submit(record, 0);
  return 0;
}

// Only one thread drains at a time, so these need no atomics.
__u64 next_number;
__u64 wrong;
__u64 drained[PRODUCERS];
// By thread.
__u64 busy[PRODUCERS];

// The compiler knows what the verifier does not: it would leave the bound out.
static __u32 index(__u32 thread) {
  asm volatile("" : "+r"(thread));
  return thread & (PRODUCERS - 1);
}

static long check(struct bpf_dynptr *request, __u32 *thread) {
  __u64 number = 0, last = 0;
  if (bpf_dynptr_read(&number, 8, request, 0, 0) || bpf_dynptr_read(&last, 8, request, 8 + (number & 31) * 8, 0)) wrong++;
  if (number != next_number || last != ~number) wrong++;
  next_number = number + 1;
  drained[index(*thread)]++;
  return (number & 7) == 7;
}

SEC("tc") int drain(struct __sk_buff *skb) {
  __u32 thread = skb->ifindex;
  if (bpf_user_ringbuf_drain(&requests, check, &thread, 0) == -16) busy[index(thread)]++;
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
