/* Configuration values of every kind that libbpf knows. Each program returns one. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

extern unsigned long CONFIG_HZ __kconfig;
extern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig;
extern bool CONFIG_NET __kconfig;
extern char CONFIG_INET __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[4] __kconfig;
extern int CONFIG_SWITCHYARD_KNOWS_NO_SUCH __kconfig __weak;
extern int LINUX_KERNEL_VERSION __kconfig;

SEC("tc") int number(struct __sk_buff *skb) { return CONFIG_HZ; }
SEC("tc") int tristate(struct __sk_buff *skb) { return 10 + CONFIG_BPF_SYSCALL; }
SEC("tc") int boolean(struct __sk_buff *skb) { return CONFIG_NET ? 20 : 21; }
SEC("tc") int character(struct __sk_buff *skb) { return CONFIG_INET; }
SEC("tc") int text(struct __sk_buff *skb) { return CONFIG_DEFAULT_HOSTNAME[0] << 8 | CONFIG_DEFAULT_HOSTNAME[3]; }
SEC("tc") int absent(struct __sk_buff *skb) { return 30 + CONFIG_SWITCHYARD_KNOWS_NO_SUCH; }
/* What decides is known to the verifier: the other branch may be wrong. */
SEC("tc") int version(struct __sk_buff *skb) {
  if (LINUX_KERNEL_VERSION < 0x060000) return *(int *)(long)CONFIG_HZ;
  return LINUX_KERNEL_VERSION >> 8;
}

char _license[] SEC("license") = "GPL";
