import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Btf, parseBtf } from '../../src/object/btf.ts';
import { readElf } from '../../src/object/elf.ts';
import { ObjectError } from '../../src/object/errors.ts';
import { parseObject } from '../../src/object/parse.ts';
import type { ProgramSpec } from '../../src/object/spec.ts';
import { BtfBuilder } from './btf-builder.ts';
import { COMPILERS, fixture, kernelLoader, loadInKernel, readObject } from './support.ts';

const POISON = 195896080;

describe('against the types of core-target.c', () => {
  const { programs } = parseObject(fixture('core'), { targetBtf: fixture('core-target') });
  const insns = (name: string) => programs.get(name)!.insns;
  const loads = (name: string) => insns(name).flatMap(insn => (insn.kind === 'load' ? [insn] : []));

  test('fields are found by name, through anonymous structs, and array elements by their size', () => {
    // struct device: ops 8, name 16 at 8, index u16 at 24, at[4] of 16 bytes from 32.
    expect(loads('read_fields').map(({ offset, size }) => ({ offset, size }))).toEqual(
      expect.arrayContaining([
        { offset: 24, size: 2 },
        { offset: 32 + 16 + 8, size: 4 },
      ]),
    );
    const numbers = insns('read_fields').flatMap(insn => (insn.kind === 'alu' && insn.op === 'mov' ? [insn.imm] : []));
    expect(numbers, 'offset of at, size of name').toEqual(expect.arrayContaining([32, 16]));
  });

  test('a load of a missing field is poisoned behind its guard, which is 0', () => {
    const code = insns('read_fields');
    const poisoned = code.findIndex(insn => insn.kind === 'callHelper' && insn.helper === POISON);
    expect(poisoned).toBeGreaterThan(0);
    expect(code.slice(0, poisoned)).toContainEqual(expect.objectContaining({ kind: 'alu', op: 'mov', imm: 0 }));
  });

  test('a signed field of another size is poisoned where it is loaded', () => {
    expect(insns('size_clash')).toContainEqual({ kind: 'callHelper', helper: POISON });
  });

  test('an unsigned field behind a flavor is loaded with the size of the target', () => {
    expect(loads('flavor').map(({ offset, size }) => ({ offset, size }))).toEqual([{ offset: 24, size: 2 }]);
  });

  test('bit-fields get the shifts that bring them down', () => {
    const shifts = insns('read_bits').flatMap(insn =>
      insn.kind === 'alu' && (insn.op === 'lsh' || insn.op === 'rsh') && insn.src === undefined ? [insn.imm] : [],
    );
    // mtu: 16 bits from bit 7 of the word after at[4].
    expect(shifts).toEqual(expect.arrayContaining([64 - 7 - 16, 64 - 16]));
  });

  test('types and enum values', () => {
    const code = insns('ask_types');
    const constants = code.flatMap(insn => {
      if (insn.kind === 'alu' && insn.op === 'mov' && insn.src === undefined) return [BigInt(insn.imm)];
      return insn.kind === 'loadImm64' ? [insn.value] : [];
    });
    expect(constants, 'device exists, gone does not, size, GREEN').toEqual(expect.arrayContaining([1n, 0n, 112n, 20n]));
  });
});

test('without a target the error says what to pass', () => {
  try {
    parseObject(fixture('core'));
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(ObjectError);
    expect((error as ObjectError).code).toBe('core_target_missing');
    expect((error as ObjectError).details).toMatchObject({ section: 'raw', symbol: 'read_fields', type: 'device' });
    expect((error as ObjectError).message).toContain('targetBtf');
  }
});

test('a target may be ELF, raw BTF or parsed, and must be BTF', () => {
  const raw = readElf(fixture('core-target')).section('.BTF')!.data;
  const fromElf = parseObject(fixture('core'), { targetBtf: fixture('core-target') });
  const code = (name: string, from: typeof fromElf) => from.programs.get(name)?.insns;
  for (const targetBtf of [raw, parseBtf(raw)]) {
    const other = parseObject(fixture('core'), { targetBtf });
    for (const name of fromElf.programs.keys()) expect(code(name, other)).toEqual(code(name, fromElf));
  }
  for (const targetBtf of [new Uint8Array(100), fixture('legacy'), new Uint8Array()]) {
    expect(() => parseObject(fixture('core'), { targetBtf })).toThrow(ObjectError);
  }
});

test('targets that disagree are ambiguous, those that agree are not', () => {
  const target = (offsets: readonly number[]): Btf => {
    const builder = new BtfBuilder();
    const int = builder.int('unsigned int', 4);
    for (const offset of offsets) builder.struct('device', 64, [{ name: 'index', type: int, bitOffset: offset * 8 }]);
    return parseBtf(builder.bytes());
  };
  const object = fixture('core');
  expect(() => parseObject(object, { targetBtf: target([4, 8]) })).toThrow(
    expect.objectContaining({ code: 'core_ambiguous' }),
  );
  const { programs } = parseObject(object, { targetBtf: target([8, 8]) });
  expect(programs.get('flavor')!.insns).toContainEqual(expect.objectContaining({ kind: 'load', offset: 8, size: 4 }));
});

test('target types that contain themselves, or too much, are given up', () => {
  const builder = new BtfBuilder();
  builder.struct('device', 64, [{ name: '', type: 1, bitOffset: 0 }]);
  expect(() => parseObject(fixture('core'), { targetBtf: builder.bytes() })).toThrow(
    expect.objectContaining({ code: 'bad_core_relocation' }),
  );
  const wide = new BtfBuilder();
  const members = (type: number) => Array.from({ length: 40 }, () => ({ name: '', type, bitOffset: 0 }));
  wide.struct('device', 64, members(2));
  for (let id = 2; id <= 8; id++) wide.struct(`s${id}`, 64, members(id + 1));
  wide.struct('s9', 64, []);
  expect(() => parseObject(fixture('core'), { targetBtf: wide.bytes() })).toThrow(
    expect.objectContaining({ code: 'bad_core_relocation' }),
  );
});

const bpftool = kernelLoader();

describe.skipIf(bpftool === undefined)('against libbpf, for the running kernel', () => {
  const vmlinux = bpftool === undefined ? new Uint8Array() : new Uint8Array(readFileSync('/sys/kernel/btf/vmlinux'));

  test.for(COMPILERS)('$label: every relocation comes to the same number', ({ compile, label }) => {
    const object = compile('core-kernel');
    const { patches } = loadInKernel(bpftool!, object);
    const { programs } = parseObject(readObject(object), { targetBtf: vmlinux });
    let compared = 0;
    for (const [name, changes] of patches) {
      for (const [slot, value] of changes) {
        expect(patchedNumber(programs.get(name)!, slot), `${name} ${slot}`).toBe(value);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(label.startsWith('clang-14') ? 35 : 45);
  });
});

function patchedNumber(program: ProgramSpec, slot: number): bigint | 'poison' | undefined {
  const insn = program.insns[slot];
  switch (insn?.kind) {
    case 'alu':
      return BigInt(insn.imm);
    case 'load':
    case 'store':
      return BigInt(insn.offset);
    case 'loadImm64':
      return insn.value;
    case 'callHelper':
      return insn.helper === POISON ? 'poison' : undefined;
    default:
      return undefined;
  }
}
