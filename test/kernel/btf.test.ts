/** BPF_BTF_LOAD: what the kernel takes, and its words about what it does not. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { KernelBtf, loadBtf, tryLoadBtf } from '../../src/kernel/btf.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { parseObject } from '../../src/object/parse.ts';
import { kernelMissing } from './support.ts';

const MAGIC = 0xeb9f;
const INT = 1 << 24;
const POINTER = 2 << 24;
const SIGNED_32 = (1 << 24) | 32;

/** A section of these words as types, with the strings "" and "int". */
function section(words: readonly number[], magic = MAGIC): Uint8Array {
  const strings = new TextEncoder().encode('\0int\0');
  const bytes = new Uint8Array(24 + 4 * words.length + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, magic, true);
  bytes[2] = 1;
  for (const [i, word] of [24, 0, 4 * words.length, 4 * words.length, strings.length].entries())
    view.setUint32(4 + 4 * i, word, true);
  for (const [i, word] of words.entries()) view.setUint32(24 + 4 * i, word, true);
  bytes.set(strings, 24 + 4 * words.length);
  return bytes;
}

const refusal = (bytes: Uint8Array): KernelError => {
  try {
    new KernelBtf(bytes).dispose();
  } catch (error) {
    expect(error).toBeInstanceOf(KernelError);
    return error as KernelError;
  }
  throw new Error('the kernel took it');
};

describe.skipIf(kernelMissing() !== undefined)('BTF in the kernel', () => {
  test('one int loads', () => {
    const btf = new KernelBtf(section([1, INT, 4, SIGNED_32]));
    expect(btf.fd).toBeGreaterThan(0);
    btf.dispose();
  });

  test('an object’s types load with the strings of its lines', () => {
    const { btf, programs } = parseObject(
      readFileSync(join(import.meta.dirname, '../../examples/router/router.bpf.o')),
    );
    const loaded = loadBtf(btf!, programs.values());
    const line = [...programs.values()].flatMap(({ lines }) => lines).find(({ text }) => text !== '')!;
    expect(loaded.string(line.text)).toBeGreaterThan(0);
    expect(loaded.string('no line of it')).toBe(0);
    loaded.dispose();
    expect(tryLoadBtf(undefined, [])).toBeUndefined();
  });

  test.each<[string, Uint8Array, string, RegExp]>([
    ['the wrong magic', section([1, INT, 4, SIGNED_32], 0x1234), 'EINVAL', /Invalid magic/],
    ['nothing', new Uint8Array(0), 'EINVAL', /./],
    ['a header that is cut off', section([1, INT, 4, SIGNED_32]).subarray(0, 10), 'EINVAL', /hdr|header/i],
    ['an int of 99 bits', section([1, INT, 4, (1 << 24) | 99]), 'EINVAL', /99|bits/],
    ['a pointer to a type that is not there', section([1, INT, 4, SIGNED_32, 0, POINTER, 77]), 'EINVAL', /\[2\] PTR/],
    ['a name beyond the strings', section([500, INT, 4, SIGNED_32]), 'EINVAL', /name_offset:500/],
  ])('%s is refused with the kernel’s words', (_, bytes, errno, words) => {
    const error = refusal(bytes);
    expect(error).toMatchObject({ code: 'btf_refused', errno });
    expect(`${error.message}\n${error.log}`).toMatch(words);
  });
});
