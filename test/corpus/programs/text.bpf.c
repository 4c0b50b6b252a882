/* The kernel's text functions, on bytes of the packet; regions that have no meaning outside the kernel. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

__s32 results[40];
char text[32];
const char words[] = "the quick Brown fox";
const char latin[] = "\xc4pfel \xd7 \xfe";

SEC("tc")
int compare(struct __sk_buff *skb)
{
	__u8 raw[14];
	if (bpf_skb_load_bytes(skb, 0, raw, sizeof(raw))) return TC_ACT_SHOT;
	for (int i = 0; i < 14; i++) text[i] = "abcdefgh"[raw[i] & 7];
	text[8 + (raw[0] & 3)] = 0;
	int n = 0;
	results[n++] = bpf_strcmp(text, "abc");
	results[n++] = bpf_strcmp(text, text);
	results[n++] = bpf_strcmp(words, "the quick brown fox");
	results[n++] = bpf_strcmp("\xff", "\x01");
	results[n++] = bpf_strcasecmp(words, "THE QUICK bROWN FOX");
	results[n++] = bpf_strcasecmp(latin, "\xe4PFEL \xd7 \xfe");
	results[n++] = bpf_strcasecmp(latin, "\xe4PFEL \xf7 \xde");
	results[n++] = bpf_strcasecmp("[", "{");
	results[n++] = bpf_strlen(text);
	results[n++] = bpf_strnlen(text, 5);
	results[n++] = bpf_strnlen(text, 0);
	results[n++] = bpf_strchr(text, 'c');
	results[n++] = bpf_strchr(text, 0);
	results[n++] = bpf_strchr(words, 'z');
	results[n++] = bpf_strchrnul(text, 'd');
	results[n++] = bpf_strchrnul(words, 'z');
	results[n++] = bpf_strnchr(text, 3, 'a');
	results[n++] = bpf_strnchr(words, 4, 'q');
	results[n++] = bpf_strnchr(words, 5, 'q');
	results[n++] = bpf_strrchr(text, 'b');
	results[n++] = bpf_strrchr(words, 'o');
	results[n++] = bpf_strrchr(words, 0);
	results[n++] = bpf_strrchr(latin, 0xfe);
	results[n++] = bpf_strrchr(latin, -2);
	results[n++] = bpf_strspn(text, "abcd");
	results[n++] = bpf_strspn(words, "");
	results[n++] = bpf_strcspn(text, "ef");
	results[n++] = bpf_strcspn(words, "");
	results[n++] = bpf_strstr(words, "fox");
	results[n++] = bpf_strstr(words, "");
	results[n++] = bpf_strstr(text, "ab");
	results[n++] = bpf_strnstr(words, "fox", 18);
	results[n++] = bpf_strnstr(words, "fox", 19);
	results[n++] = bpf_strnstr(words, "", 0);
	results[n++] = bpf_strcmp(0, words);
	results[n++] = bpf_strlen((char *)8);
	return TC_ACT_OK;
}

SEC("xdp")
int regions(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx);
	if (data + 14 > (__u8 *)end_of(ctx)) return XDP_DROP;
	bpf_rcu_read_lock();
	bpf_preempt_disable();
	if (data[0] & 1) {
		bpf_preempt_disable();
		text[0]++;
		bpf_preempt_enable();
	}
	bpf_preempt_enable();
	bpf_rcu_read_unlock();
	return XDP_PASS;
}

LICENSE;
