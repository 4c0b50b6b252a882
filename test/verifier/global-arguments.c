/* What global functions may take: each program is accepted or refused as the running kernel does, named after what it is about. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define KSYM __attribute__((section(".ksyms")))
#define TAG(name) __attribute__((btf_decl_tag("arg:" name)))
#define NOINLINE __attribute__((noinline))

struct pair {
	int first, second;
};
struct task_struct;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct pair);
} values SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} input SEC(".maps");

extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) KSYM;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) KSYM;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) KSYM;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *ptr, __u32 start, __u32 end) KSYM;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *ptr) KSYM;
extern int bpf_dynptr_clone(const struct bpf_dynptr *ptr, struct bpf_dynptr *clone) KSYM;
extern void *bpf_rdonly_cast(const void *object, __u32 type) KSYM;

#define LOCAL(d) \
	int d##_key = 0; \
	struct pair *d##_value = bpf_map_lookup_elem(&values, &d##_key); \
	if (!d##_value) return 0; \
	struct bpf_dynptr d; \
	bpf_dynptr_from_mem(d##_value, sizeof(*d##_value), 0, &d);

/* Contexts. */
NOINLINE int context(void *ctx TAG("ctx"))
{
	return ((struct xdp_md *)ctx)->ingress_ifindex;
}
NOINLINE int context_of_its_type(struct xdp_md *ctx TAG("ctx"))
{
	return ctx->ingress_ifindex;
}
NOINLINE int context_nonnull(void *ctx TAG("ctx") TAG("nonnull"))
{
	return ((struct xdp_md *)ctx)->ingress_ifindex;
}
NOINLINE int context_by_type_nonnull(struct xdp_md *ctx TAG("nonnull"))
{
	return ctx->ingress_ifindex;
}
NOINLINE int context_of_another(struct __sk_buff *ctx TAG("ctx"))
{
	return ctx->len;
}
NOINLINE int context_number(long ctx TAG("ctx"))
{
	return ctx;
}
SEC("xdp") int ctx(struct xdp_md *xdp) { return context(xdp); }
SEC("xdp") int ctx_of_its_type(struct xdp_md *xdp) { return context_of_its_type(xdp); }
SEC("xdp") int ctx_and_nonnull(struct xdp_md *xdp) { return context_nonnull(xdp); }
SEC("xdp") int ctx_by_type_and_nonnull(struct xdp_md *xdp) { return context_by_type_nonnull(xdp); }
SEC("xdp") int ctx_of_another_type(struct xdp_md *xdp) { return context_of_another((void *)xdp); }
SEC("xdp") int ctx_a_number(struct xdp_md *xdp) { return context_number(3); }
SEC("xdp") int ctx_given_stack(struct xdp_md *xdp)
{
	long local = 0;
	return context(&local);
}
SEC("xdp") int ctx_given_null(struct xdp_md *xdp) { return context(0); }
SEC("xdp") int ctx_moved(struct xdp_md *xdp) { return context((void *)xdp + 4); }

/* Memory that is or may be null. */
NOINLINE int nonnull(struct pair *pair TAG("nonnull"))
{
	return pair->first;
}
NOINLINE int plain(struct pair *pair)
{
	return pair ? pair->second : 1;
}
NOINLINE int plain_unchecked(struct pair *pair)
{
	return pair->second;
}
NOINLINE int nullable(struct pair *pair TAG("nullable"))
{
	return pair ? pair->first : 1;
}
NOINLINE int tag_unknown(struct pair *pair TAG("precious"))
{
	return pair ? pair->first : 1;
}
NOINLINE int tag_arena_and_nonnull(struct pair *pair TAG("arena") TAG("nonnull"))
{
	return pair != 0;
}
NOINLINE int number_nonnull(int number TAG("nonnull"))
{
	return number + bpf_get_smp_processor_id();
}
NOINLINE int incomplete(struct task_struct *task)
{
	return task != 0;
}
NOINLINE int address(void *address)
{
	return address != 0;
}
SEC("xdp") int nonnull_given_stack(struct xdp_md *xdp)
{
	struct pair local = { 1, 2 };
	return nonnull(&local);
}
SEC("xdp") int nonnull_given_null(struct xdp_md *xdp) { return nonnull(0); }
SEC("xdp") int nonnull_given_a_number(struct xdp_md *xdp) { return nonnull((void *)8); }
SEC("xdp") int nonnull_given_value(struct xdp_md *xdp)
{
	int key = 0;
	struct pair *value = bpf_map_lookup_elem(&values, &key);
	return value ? nonnull(value) : 0;
}
SEC("xdp") int nonnull_given_value_or_null(struct xdp_md *xdp)
{
	int key = xdp->rx_queue_index;
	return nonnull(bpf_map_lookup_elem(&values, &key));
}
SEC("xdp") int plain_given_value_or_null(struct xdp_md *xdp)
{
	int key = xdp->rx_queue_index;
	return plain(bpf_map_lookup_elem(&values, &key));
}
SEC("xdp") int plain_given_null(struct xdp_md *xdp) { return plain(0); }
SEC("xdp") int plain_that_does_not_look(struct xdp_md *xdp) { return plain_unchecked(0); }
SEC("xdp") int nullable_memory(struct xdp_md *xdp) { return nullable(0); }
SEC("xdp") int unknown_tag(struct xdp_md *xdp) { return tag_unknown(0); }
SEC("xdp") int arena_and_nonnull(struct xdp_md *xdp) { return tag_arena_and_nonnull(0); }
SEC("xdp") int nonnull_number(struct xdp_md *xdp) { return number_nonnull(1); }
SEC("xdp") int incomplete_structure(struct xdp_md *xdp) { return incomplete(0); }
SEC("xdp") int address_of_nothing(struct xdp_md *xdp) { return address(0); }

/* Dynptrs. */
NOINLINE int size_of(struct bpf_dynptr *ptr)
{
	return bpf_dynptr_size(ptr);
}
NOINLINE int first_of(const struct bpf_dynptr *ptr)
{
	int first = 0;
	bpf_dynptr_read(&first, sizeof(first), ptr, 0, 0);
	return first;
}
NOINLINE int write_to(struct bpf_dynptr *ptr)
{
	int first = 5;
	return bpf_dynptr_write(ptr, 0, &first, sizeof(first), 0);
}
NOINLINE int slice_of(const struct bpf_dynptr *ptr)
{
	char buffer[8] = {};
	char *slice = bpf_dynptr_slice(ptr, 0, buffer, sizeof(buffer));
	return slice ? slice[7] : 0;
}
NOINLINE int writable_slice_of(const struct bpf_dynptr *ptr)
{
	char buffer[8] = {};
	char *slice = bpf_dynptr_slice_rdwr(ptr, 0, buffer, sizeof(buffer));
	if (slice) slice[3] = 1;
	return 0;
}
NOINLINE int data_of(const struct bpf_dynptr *ptr)
{
	int *data = bpf_dynptr_data(ptr, 0, sizeof(int));
	return data ? *data : 0;
}
NOINLINE int narrow(const struct bpf_dynptr *ptr)
{
	return bpf_dynptr_adjust(ptr, 1, 5);
}
NOINLINE int copy_of(const struct bpf_dynptr *ptr)
{
	struct bpf_dynptr copy;
	if (bpf_dynptr_clone(ptr, &copy)) return 0;
	return bpf_dynptr_size(&copy);
}
NOINLINE int submit(struct bpf_dynptr *ptr)
{
	bpf_ringbuf_submit_dynptr(ptr, 0);
	return 0;
}
NOINLINE int remake(struct bpf_dynptr *ptr)
{
	int key = 0;
	struct pair *value = bpf_map_lookup_elem(&values, &key);
	if (value) bpf_dynptr_from_mem(value, sizeof(*value), 0, ptr);
	return 0;
}
NOINLINE int look_into(struct bpf_dynptr *ptr)
{
	return *(volatile long *)ptr;
}
NOINLINE int moved_on(struct bpf_dynptr *ptr)
{
	return bpf_dynptr_size((void *)ptr + 16);
}
NOINLINE int pass_on(int number, const struct bpf_dynptr *ptr)
{
	return size_of((void *)ptr) + number;
}
NOINLINE int dynptr_nonnull(struct bpf_dynptr *ptr TAG("nonnull"))
{
	return bpf_dynptr_size(ptr);
}
NOINLINE int slice_after_change(struct xdp_md *xdp, const struct bpf_dynptr *ptr)
{
	char buffer[8];
	char *slice = bpf_dynptr_slice(ptr, 0, buffer, sizeof(buffer));
	if (!slice) return 0;
	bpf_xdp_adjust_tail(xdp, -1);
	return slice[0];
}
SEC("xdp") int dynptr_of_memory(struct xdp_md *xdp)
{
	LOCAL(d)
	return size_of(&d) + first_of(&d) + write_to(&d);
}
SEC("xdp") int dynptr_of_packet(struct xdp_md *xdp)
{
	struct bpf_dynptr d;
	bpf_dynptr_from_xdp(xdp, 0, &d);
	return size_of(&d) + first_of(&d) + write_to(&d);
}
SEC("xdp") int dynptr_of_record(struct xdp_md *xdp)
{
	struct bpf_dynptr d;
	bpf_ringbuf_reserve_dynptr(&ring, 16, 0, &d);
	int sum = size_of(&d) + write_to(&d);
	bpf_ringbuf_discard_dynptr(&d, 0);
	return sum;
}
SEC("xdp") int dynptr_sliced(struct xdp_md *xdp)
{
	struct bpf_dynptr d;
	bpf_dynptr_from_xdp(xdp, 0, &d);
	return slice_of(&d) + writable_slice_of(&d) + data_of(&d);
}
SEC("xdp") int dynptr_narrowed(struct xdp_md *xdp)
{
	LOCAL(d)
	return narrow(&d) + size_of(&d);
}
SEC("xdp") int dynptr_copied(struct xdp_md *xdp)
{
	LOCAL(d)
	return copy_of(&d) + pass_on(3, &d);
}
SEC("xdp") int dynptr_submitted(struct xdp_md *xdp)
{
	struct bpf_dynptr d;
	bpf_ringbuf_reserve_dynptr(&ring, 16, 0, &d);
	submit(&d);
	bpf_ringbuf_discard_dynptr(&d, 0);
	return 0;
}
SEC("xdp") int dynptr_made_again(struct xdp_md *xdp)
{
	LOCAL(d)
	return remake(&d);
}
SEC("xdp") int dynptr_looked_into(struct xdp_md *xdp)
{
	LOCAL(d)
	return look_into(&d);
}
SEC("xdp") int dynptr_moved(struct xdp_md *xdp)
{
	LOCAL(d)
	return moved_on(&d);
}
SEC("xdp") int dynptr_and_nonnull(struct xdp_md *xdp)
{
	LOCAL(d)
	return dynptr_nonnull(&d);
}
SEC("xdp") int dynptr_never_made(struct xdp_md *xdp)
{
	struct bpf_dynptr d = {};
	return size_of(&d);
}
SEC("xdp") int dynptr_given_null(struct xdp_md *xdp) { return size_of(0); }
SEC("xdp") int dynptr_given_context(struct xdp_md *xdp) { return size_of((void *)xdp); }
SEC("xdp") int dynptr_given_value(struct xdp_md *xdp)
{
	int key = 0;
	struct pair *value = bpf_map_lookup_elem(&values, &key);
	return value ? size_of((void *)value) : 0;
}
SEC("xdp") int dynptr_half(struct xdp_md *xdp)
{
	LOCAL(d)
	return size_of((void *)&d + 8);
}
static long drained(struct bpf_dynptr *ptr, void *context)
{
	return size_of(ptr) > 3;
}
SEC("xdp") int dynptr_of_callback(struct xdp_md *xdp)
{
	return bpf_user_ringbuf_drain(&input, drained, 0, 0) > 0;
}
SEC("xdp") int dynptr_of_packet_that_changes(struct xdp_md *xdp)
{
	struct bpf_dynptr d;
	bpf_dynptr_from_xdp(xdp, 0, &d);
	return slice_after_change(xdp, &d);
}

/* Addresses that may be any. */
NOINLINE int untrusted_number(int *number TAG("untrusted"))
{
	return *number + number[1];
}
NOINLINE int untrusted_void(void *address TAG("untrusted"))
{
	return *(char *)(address + 5);
}
NOINLINE int untrusted_and_nonnull(int *number TAG("untrusted") TAG("nonnull"))
{
	return *number;
}
NOINLINE int untrusted_written(int *number TAG("untrusted"))
{
	*number = 1;
	return 0;
}
NOINLINE int untrusted_task(struct task_struct *task TAG("untrusted"))
{
	return task != 0;
}
struct sk_buff {
	int len;
};
NOINLINE int untrusted_skb(struct sk_buff *skb TAG("untrusted"))
{
	/* The kernel's first field, whatever is written above. */
	return *(volatile long *)skb == 300;
}
NOINLINE int untrusted_skb_as_ours(struct sk_buff *skb TAG("untrusted"))
{
	return *(volatile int *)skb;
}
NOINLINE int trusted_skb(struct sk_buff *skb TAG("trusted") TAG("nullable"))
{
	return skb != 0;
}
NOINLINE int untrusted_pair(struct pair *pair TAG("untrusted"))
{
	return pair->first;
}
NOINLINE int trusted_task(struct task_struct *task TAG("trusted"))
{
	return task != 0;
}
NOINLINE int trusted_task_or_null(struct task_struct *task TAG("trusted") TAG("nullable"))
{
	return task != 0;
}
NOINLINE int trusted_and_nonnull(struct task_struct *task TAG("trusted") TAG("nonnull"))
{
	return task != 0;
}
SEC("xdp") int untrusted_given_anything(struct xdp_md *xdp)
{
	long local = 0;
	LOCAL(d)
	return untrusted_number((void *)&local) + untrusted_number(0) + untrusted_void((void *)77) +
	       untrusted_void(d_value) + untrusted_void(bpf_rdonly_cast(d_value, 0)) +
	       untrusted_number(bpf_map_lookup_elem(&values, &d_key));
}
SEC("xdp") int untrusted_nonnull(struct xdp_md *xdp) { return untrusted_and_nonnull(0); }
SEC("xdp") int untrusted_and_written(struct xdp_md *xdp) { return untrusted_written(0); }
SEC("xdp") int untrusted_context(struct xdp_md *xdp) { return untrusted_void(xdp) == 300; }
SEC("xdp") int untrusted_structure(struct xdp_md *xdp) { return untrusted_task(0); }
SEC("xdp") int untrusted_structure_of_its_own(struct xdp_md *xdp) { return untrusted_pair(0); }
SEC("xdp") int untrusted_structure_of_the_kernel(struct xdp_md *xdp) { return untrusted_skb((void *)xdp); }
SEC("xdp") int untrusted_structure_misread(struct xdp_md *xdp) { return untrusted_skb_as_ours((void *)xdp); }
SEC("xdp") int trusted_structure_of_the_kernel(struct xdp_md *xdp)
{
	return trusted_skb(0);
}
SEC("xdp") int trusted(struct xdp_md *xdp) { return trusted_task(0); }
SEC("xdp") int trusted_or_null(struct xdp_md *xdp) { return trusted_task_or_null(0); }
SEC("xdp") int trusted_nonnull(struct xdp_md *xdp) { return trusted_and_nonnull(0); }

/* Static functions are looked at with what they are given: tags say nothing. */
static NOINLINE int of_static(struct pair *pair TAG("nonnull"))
{
	return pair ? pair->first : 7;
}
SEC("xdp") int tag_of_static_function(struct xdp_md *xdp) { return of_static(0); }

char LICENSE[] SEC("license") = "GPL";
