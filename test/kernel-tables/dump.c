/*
 * Prints every test of the kernel's tables as a line of JSON. `tables.h`, made by extract.ts, includes each table with
 * its file name: TABLE(name) ... is one array per file, and `tables[]` lists them.
 */
#include "shim.h"
#include "tables.h"

static void print_string(const char *text)
{
	if (!text) {
		fputs("null", stdout);
		return;
	}
	putchar('"');
	for (; *text; text++) {
		unsigned char c = *text;
		if (c == '"' || c == '\\' || c < 32 || c > 126)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_hex(const void *bytes, size_t count)
{
	const unsigned char *at = bytes;
	putchar('"');
	for (size_t i = 0; i < count; i++)
		printf("%02x", at[i]);
	putchar('"');
}

/* A table's program ends with the last instruction that is not all zeros. */
static size_t program_length(const struct bpf_test *test)
{
	size_t length = MAX_TABLE_INSNS;
	while (length > 0 && test->insns[length - 1].code == 0 && test->insns[length - 1].imm == 0)
		length--;
	return length;
}

static void print_fixup(const char *kind, const int *slots, int *count)
{
	if (!slots[0])
		return;
	printf("%s\"%s\":[", (*count)++ ? "," : "", kind);
	for (int i = 0; i < MAX_FIXUPS && slots[i]; i++)
		printf("%s%d", i ? "," : "", slots[i]);
	putchar(']');
}

static void print_test(const char *file, const struct bpf_test *test)
{
	static const char *const results[] = {"undefined", "accept", "reject", "accept"};
	int fixups = 0;

	fputs("{\"file\":", stdout);
	print_string(file);
	fputs(",\"name\":", stdout);
	print_string(test->descr);
	printf(",\"type\":%d,\"attachType\":%d", test->prog_type, test->expected_attach_type);
	printf(",\"result\":\"%s\",\"resultUnprivileged\":\"%s\"", results[test->result], results[test->result_unpriv]);
	fputs(",\"error\":", stdout);
	print_string(test->errstr);
	fputs(",\"errorUnprivileged\":", stdout);
	print_string(test->errstr_unpriv);
	printf(",\"insnProcessed\":%u,\"flags\":%u,\"filler\":", test->insn_processed, test->flags);
	print_string(test->fill_helper);
	fputs(",\"fixups\":{", stdout);
#define PRINT_FIXUP(kind) print_fixup(#kind, test->fixup_##kind, &fixups);
	FIXUPS(PRINT_FIXUP)
	fputs("},\"kfuncs\":[", stdout);
	for (int i = 0; i < MAX_FIXUPS && test->fixup_kfunc_btf_id[i].kfunc; i++) {
		fputs(i ? ",[" : "[", stdout);
		printf("%d,", test->fixup_kfunc_btf_id[i].insn_idx);
		print_string(test->fixup_kfunc_btf_id[i].kfunc);
		putchar(']');
	}
	fputs("],\"runs\":[", stdout);
	for (int i = 0; i < (test->runs ? test->runs : 1); i++) {
		printf("%s{\"retval\":%u,\"data\":", i ? "," : "", test->retvals[i].retval);
		print_hex(test->retvals[i].data, TEST_DATA_LEN);
		putchar('}');
	}
	fputs("],\"insns\":", stdout);
	print_hex(test->insns, program_length(test) * sizeof(struct bpf_insn));
	puts("}");
}

int main(void)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (size_t j = 0; j < tables[i].count; j++)
			print_test(tables[i].file, &tables[i].tests[j]);
	return 0;
}
