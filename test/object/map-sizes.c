/* Maps whose sizes the loader settles. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define RING(name, kind, size) \
  struct { __uint(type, kind); __uint(max_entries, size); } name SEC(".maps")

RING(one_byte, BPF_MAP_TYPE_RINGBUF, 1);
RING(one_page, BPF_MAP_TYPE_RINGBUF, 4096);
RING(more, BPF_MAP_TYPE_RINGBUF, 5000);
RING(three_pages, BPF_MAP_TYPE_RINGBUF, 3 * 4096);
RING(to_program, BPF_MAP_TYPE_USER_RINGBUF, 100000);

struct events {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __type(key, __u32);
  __type(value, __u32);
} events SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct events);
} outer SEC(".maps") = {.values = {&events}};

/* As for cilium's bpf2go: the type of the records. libbpf passes its size on, and the kernel refuses that. */
struct record {
  __u64 what[3];
};
#ifdef RECORD_TYPES
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
  __type(value, struct record);
} records SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __type(value, struct record);
} samples SEC(".maps");

SEC("tc") int typed(struct __sk_buff *skb) {
  struct record record = {{skb->len, 2, 3}};
  bpf_perf_event_output(skb, &samples, 0, &record, sizeof(record));
  return bpf_ringbuf_output(&records, &record, sizeof(record), 0) + 1;
}
#endif

SEC("tc") int emits(struct __sk_buff *skb) {
  __u32 key = 0;
  long value = 7;
  void *inner = bpf_map_lookup_elem(&outer, &key);
  if (inner) bpf_perf_event_output(skb, inner, 0, &value, sizeof(value));
  bpf_ringbuf_output(&one_byte, &value, sizeof(value), 0);
  bpf_ringbuf_output(&one_page, &value, sizeof(value), 0);
  bpf_ringbuf_output(&more, &value, sizeof(value), 0);
  bpf_ringbuf_output(&three_pages, &value, sizeof(value), 0);
  return bpf_ringbuf_query(&more, BPF_RB_RING_SIZE);
}

char _license[] SEC("license") = "GPL";
