import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decode, encode, opcodeOf } from '../../src/isa/codec.ts';
import { IsaError } from '../../src/isa/errors.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { judgeCode, kernelMissing } from '../kernel/support.ts';
import { wireInstruction, wireProgram } from './arbitrary.ts';

interface Fields {
  opcode: number;
  dst?: number;
  src?: number;
  offset?: number;
  imm?: number;
}

/** The bytes of these slots, written by hand so that the codec does not test itself. */
function slots(...fields: Fields[]): Uint8Array {
  const bytes = new Uint8Array(fields.length * 8);
  const view = new DataView(bytes.buffer);
  fields.forEach(({ opcode, dst = 0, src = 0, offset = 0, imm = 0 }, i) => {
    view.setUint8(i * 8, opcode);
    view.setUint8(i * 8 + 1, (src << 4) | dst);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, imm, true);
  });
  return bytes;
}

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

/** What the codec throws for this; undefined if it accepts. Anything but an IsaError fails the test. */
function refusal(run: () => unknown): IsaError | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (error instanceof IsaError) return error;
    throw error;
  }
}

describe('encode and decode', () => {
  test('are inverse for every program', () => {
    fc.assert(
      fc.property(wireProgram, program => {
        const bytes = encode(program);
        expect(bytes.length).toBe(program.length * 8);
        expect(decode(bytes)).toEqual(program);
        expect(toHex(encode(decode(bytes)))).toBe(toHex(bytes));
      }),
      { numRuns: 500 },
    );
  });

  test('bytes that decode accepts are written again as they came', () => {
    const slot = fc.record({
      opcode: fc.integer({ min: 0, max: 255 }),
      dst: fc.integer({ min: 0, max: 15 }),
      src: fc.constantFrom(0, 0, 0, 1, 2, 3, 10, 11, 15),
      offset: fc.constantFrom(0, 0, 0, 1, 8, 16, 32, -1, 0x7fff),
      imm: fc.constantFrom(0, 0, 0, 1, 16, 32, 64, 0x41, 0xe1, 0xf1, 0x100, 0x110, 0x10000, -1),
    });
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(slot, { minLength: 1, maxLength: 2 }), fields => {
        const bytes = slots(...fields);
        let insns: Instruction[] = [];
        const error = refusal(() => {
          insns = decode(bytes);
        });
        if (error !== undefined) return;
        accepted++;
        expect(toHex(encode(insns))).toBe(toHex(bytes));
      }),
      { numRuns: 4000 },
    );
    expect(accepted).toBeGreaterThan(40);
  });

  test('opcodeOf is the first byte', () => {
    fc.assert(
      fc.property(wireInstruction, insn => {
        expect(opcodeOf(insn)).toBe(encode([insn])[0]);
      }),
    );
    expect(opcodeOf({ kind: 'loadImm64', dst: 1, value: 5n, reference: undefined })).toBe(0x18);
    expect(opcodeOf({ kind: 'runContext', dst: 1 })).toBeUndefined();
  });

  test('decode reads a part of a larger buffer', () => {
    const buffer = new Uint8Array([1, 2, 3, ...slots({ opcode: 0x95 }), 4]);
    expect(decode(buffer.subarray(3, 11))).toEqual([{ kind: 'exit' }]);
  });

  test('an empty program is no instructions', () => {
    expect(decode(new Uint8Array(0))).toEqual([]);
    expect(encode([])).toEqual(new Uint8Array(0));
  });
});

describe('wire forms that hide in other instructions', () => {
  const forms: { name: string; have: Fields[]; want: Instruction }[] = [
    {
      name: 'signed division is DIV with offset 1',
      have: [{ opcode: 0x37, dst: 1, offset: 1, imm: 3 }],
      want: { kind: 'alu', op: 'sdiv', width: 64, dst: 1, src: undefined, imm: 3 },
    },
    {
      name: 'signed modulo is MOD with offset 1',
      have: [{ opcode: 0x9c, dst: 1, src: 2, offset: 1 }],
      want: { kind: 'alu', op: 'smod', width: 32, dst: 1, src: 2, imm: 0 },
    },
    {
      name: 'a sign-extending move is MOV with the width in offset',
      have: [{ opcode: 0xbf, dst: 1, src: 2, offset: 32 }],
      want: { kind: 'movsx', width: 64, from: 32, dst: 1, src: 2 },
    },
    {
      name: 'an unconditional swap is END in ALU64',
      have: [{ opcode: 0xd7, dst: 3, imm: 16 }],
      want: { kind: 'byteswap', order: 'swap', size: 16, dst: 3 },
    },
    {
      name: 'gotol is JA in JMP32 with the target in imm',
      have: [{ opcode: 0x06, imm: -70000 }],
      want: { kind: 'goto', offset: -70000, long: true },
    },
    { name: 'may_goto', have: [{ opcode: 0xe5, offset: 4 }], want: { kind: 'mayGoto', offset: 4 } },
    {
      name: 'load-acquire: dst is the result, src the base',
      have: [{ opcode: 0xd3, dst: 2, src: 1, offset: 4, imm: 0x100 }],
      want: { kind: 'atomic', op: 'loadAcquire', fetch: false, size: 1, dst: 2, src: 1, offset: 4 },
    },
    {
      name: 'store-release: dst is the base',
      have: [{ opcode: 0xcb, dst: 1, src: 2, offset: 4, imm: 0x110 }],
      want: { kind: 'atomic', op: 'storeRelease', fetch: false, size: 2, dst: 1, src: 2, offset: 4 },
    },
    {
      name: 'an arena cast is MOV with offset 1',
      have: [{ opcode: 0xbf, dst: 1, src: 2, offset: 1, imm: 0x10000 }],
      want: { kind: 'addrSpaceCast', dst: 1, src: 2, toSpace: 1, fromSpace: 0 },
    },
    {
      name: 'a kernel function by BTF id, its module in offset',
      have: [{ opcode: 0x85, src: 2, offset: 3, imm: 1234 }],
      want: { kind: 'callKfunc', btfId: 1234, module: 3 },
    },
    {
      name: 'the value of a loadImm64 is unsigned',
      have: [
        { opcode: 0x18, dst: 1, imm: -2 },
        { opcode: 0, imm: -1 },
      ],
      want: { kind: 'loadImm64', dst: 1, value: 0xffff_ffff_ffff_fffen, reference: undefined },
    },
    {
      name: 'the offset into a map value is unsigned',
      have: [
        { opcode: 0x18, dst: 1, src: 2, imm: 7 },
        { opcode: 0, imm: -1 },
      ],
      want: { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'mapFdValue', fd: 7, offset: 0xffffffff } },
    },
  ];
  test.each(forms)('$name', ({ have, want }) => {
    const bytes = slots(...have);
    expect(decode(bytes)[0]).toEqual(want);
    expect(encode(want.kind === 'loadImm64' ? [want, { kind: 'wide' }] : [want])).toEqual(bytes);
  });
});

describe('decode refuses', () => {
  const refused: { name: string; have: Fields[]; code: string; says: string; insn?: number }[] = [
    { name: 'callx', have: [{ opcode: 0x8d }], code: 'unknown_opcode', says: 'unknown opcode 8d' },
    {
      name: 'an 8-byte sign-extending load',
      have: [{ opcode: 0x99 }],
      code: 'unknown_opcode',
      says: 'unknown opcode 99',
    },
    {
      name: 'a register above 10',
      have: [{ opcode: 0x95 }, { opcode: 0xb7, dst: 11 }],
      code: 'invalid_register',
      says: 'R11 is invalid',
      insn: 1,
    },
    {
      name: 'a source register above 10',
      have: [{ opcode: 0xbf, src: 15 }],
      code: 'invalid_register',
      says: 'R15 is invalid',
    },
    {
      name: 'a swap of 8 bits',
      have: [{ opcode: 0xd4, imm: 8 }],
      code: 'reserved_field',
      says: 'BPF_END uses reserved fields',
    },
    {
      name: 'a 32-bit move from 32 bits',
      have: [{ opcode: 0xbc, offset: 32 }],
      code: 'reserved_field',
      says: 'BPF_MOV uses reserved fields',
    },
    {
      name: 'a cast between equal address spaces',
      have: [{ opcode: 0xbf, offset: 1, imm: 0x10001 }],
      code: 'reserved_field',
      says: 'addr_space_cast insn can only convert between address space 1 and 0',
    },
    {
      name: 'a signed addition',
      have: [{ opcode: 0x07, offset: 1 }],
      code: 'reserved_field',
      says: 'BPF_ALU uses reserved fields',
    },
    {
      name: 'an atomic subtraction',
      have: [{ opcode: 0xdb, imm: 0x10 }],
      code: 'invalid_atomic',
      says: 'BPF_ATOMIC uses invalid atomic opcode 10',
    },
    {
      name: 'an atomic addition of 2 bytes',
      have: [{ opcode: 0xcb }],
      code: 'invalid_atomic',
      says: 'invalid atomic operand size',
    },
    {
      name: 'a loadImm64 at the end',
      have: [{ opcode: 0x95 }, { opcode: 0x18 }],
      code: 'invalid_load_imm64',
      says: 'invalid bpf_ld_imm64 insn',
      insn: 1,
    },
    {
      name: 'a second slot with a register',
      have: [{ opcode: 0x18 }, { opcode: 0, dst: 1 }],
      code: 'invalid_load_imm64',
      says: 'invalid bpf_ld_imm64 insn',
    },
    {
      name: 'a loadImm64 with an offset',
      have: [{ opcode: 0x18, offset: 1 }, { opcode: 0 }],
      code: 'reserved_field',
      says: 'BPF_LD_IMM64 uses reserved fields',
    },
    {
      name: 'a loadImm64 of unknown source',
      have: [{ opcode: 0x18, src: 7 }, { opcode: 0 }],
      code: 'invalid_load_imm64',
      says: 'unrecognized bpf_ld_imm64 insn',
    },
    {
      name: 'a map with an offset',
      have: [
        { opcode: 0x18, src: 1 },
        { opcode: 0, imm: 1 },
      ],
      code: 'invalid_load_imm64',
      says: 'unrecognized bpf_ld_imm64 insn',
    },
    {
      name: 'a second slot alone',
      have: [{ opcode: 0, imm: 1 }],
      code: 'unknown_opcode',
      says: 'unknown opcode 00',
    },
  ];
  test.each(refused)('$name', ({ have, code, says, insn = 0 }) => {
    const bytes = slots(...have);
    const error = refusal(() => decode(bytes));
    expect(error?.code).toBe(code);
    expect(error?.message).toContain(says);
    expect(error?.message).toContain(`instruction ${insn}:`);
    expect(error?.details).toEqual({
      insn,
      opcode: have[insn]!.opcode,
      bytes: toHex(bytes.subarray(insn * 8, insn * 8 + 8)),
    });
  });

  test.each([1, 7, 9, 12])('%i bytes', length => {
    const error = refusal(() => decode(new Uint8Array(length)));
    expect(error?.code).toBe('truncated_program');
    expect(error?.details).toEqual({ length });
  });
});

describe('encode refuses', () => {
  const exit: Instruction = { kind: 'exit' };
  const load = (value: bigint): Instruction => ({ kind: 'loadImm64', dst: 1, value, reference: undefined });
  const mapByName: Instruction = { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'map', map: 'm' } };
  const atomic = { kind: 'atomic', dst: 1, src: 2, offset: 0 } as const;
  const refused: { name: string; have: Instruction[]; code: string }[] = [
    { name: 'an internal instruction', have: [exit, { kind: 'tailCall', imm: 1 }], code: 'not_encodable' },
    { name: 'a reference by name', have: [mapByName, { kind: 'wide' }], code: 'not_encodable' },
    { name: 'a loadImm64 without its wide', have: [load(1n), exit], code: 'invalid_load_imm64' },
    { name: 'a loadImm64 at the end', have: [load(1n)], code: 'invalid_load_imm64' },
    { name: 'a wide alone', have: [{ kind: 'wide' }], code: 'invalid_load_imm64' },
    { name: 'a value of 65 bits', have: [load(1n << 64n), { kind: 'wide' }], code: 'out_of_range' },
    {
      name: 'register AX',
      have: [{ kind: 'alu', op: 'mov', width: 64, dst: 11, src: 1, imm: 0 }],
      code: 'invalid_register',
    },
    {
      name: 'an unsigned immediate',
      have: [{ kind: 'alu', op: 'mov', width: 64, dst: 1, src: undefined, imm: 0xffffffff }],
      code: 'out_of_range',
    },
    {
      name: 'a fraction',
      have: [{ kind: 'alu', op: 'mov', width: 64, dst: 1, src: undefined, imm: 0.5 }],
      code: 'out_of_range',
    },
    {
      name: 'a far goto in the short form',
      have: [{ kind: 'goto', offset: 40000, long: false }],
      code: 'out_of_range',
    },
    {
      name: 'an immediate beside a register',
      have: [{ kind: 'alu', op: 'add', width: 64, dst: 1, src: 2, imm: 7 }],
      code: 'reserved_field',
    },
    {
      name: 'a sign-extending load of 8 bytes',
      have: [{ kind: 'load', size: 8, signed: true, dst: 1, src: 2, offset: 0 }],
      code: 'unknown_opcode',
    },
    { name: 'an atomic of 2 bytes', have: [{ ...atomic, op: 'add', fetch: true, size: 2 }], code: 'invalid_atomic' },
    {
      name: 'an exchange that does not fetch',
      have: [{ ...atomic, op: 'xchg', fetch: false, size: 8 }],
      code: 'not_encodable',
    },
    {
      name: 'a map value offset of 33 bits',
      have: [
        { kind: 'loadImm64', dst: 1, value: 0n, reference: { type: 'mapFdValue', fd: 1, offset: 2 ** 32 } },
        { kind: 'wide' },
      ],
      code: 'out_of_range',
    },
    {
      name: 'a cast from an address space that does not fit',
      have: [{ kind: 'addrSpaceCast', dst: 1, src: 2, toSpace: 0x10001, fromSpace: 0 }],
      code: 'out_of_range',
    },
  ];
  const untyped: { name: string; have: unknown; code: string }[] = [
    { name: 'an unknown kind', have: { kind: 'nop' }, code: 'not_encodable' },
    {
      name: 'a load of 3 bytes',
      have: { kind: 'load', size: 3, signed: false, dst: 1, src: 2, offset: 0 },
      code: 'not_encodable',
    },
    {
      name: 'an unknown operation',
      have: { kind: 'alu', op: 'pow', width: 64, dst: 1, src: 2, imm: 0 },
      code: 'not_encodable',
    },
    {
      name: 'a width of 16',
      have: { kind: 'alu', op: 'add', width: 16, dst: 1, src: 2, imm: 0 },
      code: 'not_encodable',
    },
    {
      name: 'an unknown byte order',
      have: { kind: 'byteswap', order: 'pdp', size: 16, dst: 1 },
      code: 'not_encodable',
    },
    {
      name: 'an unknown comparison',
      have: { kind: 'jump', op: 'near', width: 64, dst: 0, src: undefined, imm: 0, offset: 0 },
      code: 'not_encodable',
    },
    { name: 'a negative register', have: { kind: 'byteswap', order: 'le', size: 16, dst: -1 }, code: 'out_of_range' },
    { name: 'a missing field', have: { kind: 'goto', long: false }, code: 'out_of_range' },
    {
      name: 'a value that is no bigint',
      have: { kind: 'loadImm64', dst: 1, value: 5, reference: undefined },
      code: 'out_of_range',
    },
  ];
  test.each(untyped)('$name (from untyped code)', ({ have, code }) => {
    expect(refusal(() => encode([have as Instruction]))?.code).toBe(code);
  });

  test.each(refused)('$name', ({ have, code }) => {
    expect(refusal(() => encode(have))?.code).toBe(code);
  });
});

/*
 * Every opcode with every field filled in turn, and random combinations, against the kernel: whatever decode refuses
 * the kernel must refuse, and where the kernel blames the encoding, decode must do so in the same words.
 */
describe.skipIf(kernelMissing() !== undefined)('against the running kernel (needs the right to load programs)', () => {
  /** Scalars everywhere but in r6 (the context) and r10, and an initialised stack slot. */
  const prologue: Fields[] = [
    { opcode: 0xbf, dst: 6, src: 1 },
    ...[0, 1, 2, 3, 4, 5, 7, 8, 9].map(dst => ({ opcode: 0xb7, dst, imm: 1 })),
    { opcode: 0x7a, dst: 10, offset: -8, imm: 1 },
  ];
  const epilogue: Fields[] = [...new Array(65).fill({ opcode: 0xb7, imm: 0 }), { opcode: 0x95 }];
  const ENCODING =
    /BPF_\S+ uses reserved fields|unknown opcode [0-9a-f]{2}|BPF_ATOMIC uses invalid atomic opcode [0-9a-f]+|invalid atomic operand size|un?recognized bpf_ld_imm64 insn|invalid bpf_ld_imm64 insn|R1[1-5] is invalid|addr_space_cast insn can only convert between address space 1 and 0|BPF_LD_IMM64 uses reserved fields/;

  const tally = { both: 0, refusedByBoth: 0, blamed: 0 };
  function compare(...fields: Fields[]): void {
    const bytes = slots(...prologue, ...fields, ...epilogue);
    const error = refusal(() => decode(bytes));
    const { accepted, log } = judgeCode(bytes, { logLevel: 2 });
    const context = `${JSON.stringify(fields)}\nours: ${error?.message ?? 'accepted'}\nkernel: ${log.split('\n').slice(-4).join(' | ')}`;
    const blame = ENCODING.exec(log)?.[0];
    if (error !== undefined) {
      expect(accepted, context).toBe(false);
      tally.refusedByBoth++;
    } else if (accepted) {
      tally.both++;
    }
    if (blame !== undefined) {
      // Of several things that are wrong the kernel may name another first if one is a register.
      if (blame.startsWith('R')) expect(error?.code, context).toMatch(/^(invalid_register|reserved_field)$/);
      else expect(error?.message, context).toContain(blame);
      tally.blamed++;
    }
  }

  const values = {
    dst: [0, 1, 2, 6, 10, 11, 15],
    src: [0, 1, 2, 3, 6, 10, 11, 15],
    offset: [0, 1, 2, 8, 16, 32, 64, -1, -8],
    imm: [0, 1, 2, 14, 16, 32, 64, 0x40, 0x41, 0x50, 0xa1, 0xe1, 0xf1, 0x100, 0x110, 0x10000, 0x10001, -1],
  };
  const base = { dst: 1, src: 0, offset: 0, imm: 0 };

  test('every opcode, every field in turn', { timeout: 60_000 }, () => {
    for (let opcode = 0; opcode < 256; opcode++) {
      for (const [field, list] of Object.entries(values)) {
        for (const value of list) compare({ opcode, ...base, [field]: value });
      }
      compare({ opcode, dst: 10, src: 1, offset: -8 });
      compare({ opcode, dst: 1, src: 10, offset: -8 });
    }
    expect(tally.both).toBeGreaterThan(1000);
    expect(tally.refusedByBoth).toBeGreaterThan(1000);
    expect(tally.blamed).toBeGreaterThan(1000);
  });

  test('both slots of a loadImm64', () => {
    for (const src of values.src) {
      compare({ opcode: 0x18, dst: 1, src, imm: 1 }, { opcode: 0 });
      compare({ opcode: 0x18, dst: 1, src, offset: 1 }, { opcode: 0 });
      compare({ opcode: 0x18, dst: 11, src }, { opcode: 0 });
      for (const second of [{ dst: 1 }, { src: 1 }, { offset: 1 }, { imm: 1 }, { opcode: 0x95 }]) {
        compare({ opcode: 0x18, dst: 1, src }, { opcode: 0, ...second });
      }
    }
  });

  test('random fields', { timeout: 60_000 }, () => {
    const slot = fc.record({
      opcode: fc.integer({ min: 0, max: 255 }),
      dst: fc.constantFrom(...values.dst),
      src: fc.constantFrom(...values.src),
      offset: fc.constantFrom(0, ...values.offset),
      imm: fc.constantFrom(0, ...values.imm),
    });
    fc.assert(
      fc.property(slot, fields => compare(fields)),
      { numRuns: 5000 },
    );
  });
});

/* The bpf_conformance suite lies beside the checkout and is not part of it. */
const suite = new URL('../../../shared/suites/conformance.json', import.meta.url);
describe.skipIf(!existsSync(suite))('bpf_conformance (../shared/suites)', () => {
  interface Case {
    name: string;
    raw?: string[];
    kernel?: { why?: string };
  }
  const { tests, negative } = existsSync(suite)
    ? (JSON.parse(readFileSync(suite, 'utf8')) as { tests: Case[]; negative: Case[] })
    : { tests: [], negative: [] };

  test('every program is decoded and written again as it came', () => {
    const valid = tests.filter(({ raw, name }) => raw !== undefined && name !== 'callx');
    expect(valid.length).toBeGreaterThan(300);
    for (const { name, raw } of valid) {
      const hex = raw!.join('');
      expect(toHex(encode(decode(fromHex(hex)))), name).toBe(hex);
    }
  });

  test('every malformed program is refused, in the words of the kernel where its log has them', () => {
    const invalid = negative.filter(({ raw }) => raw !== undefined);
    expect(invalid.length).toBeGreaterThan(40);
    let worded = 0;
    for (const { name, raw, kernel } of invalid) {
      const error = refusal(() => decode(fromHex(raw!.join(''))));
      expect(error, name).toBeInstanceOf(IsaError);
      // Elsewhere the kernel stopped before it looked at the fields (unreachable code, uninitialised registers).
      if (kernel?.why === undefined || !/reserved fields|can only convert/.test(kernel.why)) continue;
      expect(error!.message, name).toContain(kernel.why);
      worded++;
    }
    expect(worded).toBeGreaterThan(30);
  });
});
