/*
 * Arbitrary instructions and programs, for property tests in every room.
 */
import fc from 'fast-check';
import type {
  AluOp,
  Atomic,
  Instruction,
  InternalInstruction,
  JumpOp,
  LoadImm64,
  Reference,
  Register,
  WireInstruction,
} from '../../src/isa/instruction.ts';

type OneSlot = Exclude<WireInstruction, { kind: 'loadImm64' | 'wide' }>;

const ALU_OPS: readonly AluOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'sdiv',
  'mod',
  'smod',
  'or',
  'and',
  'xor',
  'lsh',
  'rsh',
  'arsh',
  'mov',
];
const JUMP_OPS: readonly JumpOp[] = ['eq', 'ne', 'gt', 'ge', 'lt', 'le', 'sgt', 'sge', 'slt', 'sle', 'set'];

const publicRegister: fc.Arbitrary<Register> = fc.integer({ min: 0, max: 10 }).map(n => n as Register);
const anyRegister: fc.Arbitrary<Register> = fc.integer({ min: 0, max: 11 }).map(n => n as Register);

/** Numbers of `bits` bits, signed, with the borders of every narrower type often among them. */
function signed(bits: 16 | 32): fc.Arbitrary<number> {
  const min = -(2 ** (bits - 1));
  const max = 2 ** (bits - 1) - 1;
  const borders = [0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, -32768, 32768, 65535, 65536, max, min, max - 1];
  return fc.oneof(
    fc.constantFrom(...borders.filter(n => n >= min && n <= max)),
    fc.integer({ min, max }),
    fc.integer({ min: -16, max: 16 }),
  );
}
const int16 = signed(16);
const int32 = signed(32);
const uint32 = int32.map(n => n >>> 0);

/** Unsigned 64-bit values, borders included. */
const uint64: fc.Arbitrary<bigint> = fc.oneof(
  fc.constantFrom(0n, 1n, 0x7fffffffn, 0x80000000n, 0xffffffffn, 1n << 32n, 1n << 63n, (1n << 64n) - 1n),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);

function oneSlot(register: fc.Arbitrary<Register>): fc.Arbitrary<OneSlot> {
  const operand = fc.oneof(
    register.map(src => ({ src, imm: 0 })),
    int32.map(imm => ({ src: undefined, imm })),
  );
  const width = fc.constantFrom(32 as const, 64 as const);
  const size = fc.constantFrom(1 as const, 2 as const, 4 as const, 8 as const);
  const wordSize = fc.constantFrom(4 as const, 8 as const);
  const place = fc.record({ dst: register, src: register, offset: int16 });

  const atomic: fc.Arbitrary<Atomic> = fc.oneof(
    fc
      .record({ op: fc.constantFrom('add', 'or', 'and', 'xor'), fetch: fc.boolean(), size: wordSize, at: place })
      .map(({ at, ...rest }) => ({ kind: 'atomic' as const, ...rest, ...at })),
    fc
      .record({ op: fc.constantFrom('xchg', 'cmpxchg'), size: wordSize, at: place })
      .map(({ at, ...rest }) => ({ kind: 'atomic' as const, ...rest, fetch: true, ...at })),
    fc
      .record({ op: fc.constantFrom('loadAcquire', 'storeRelease'), size, at: place })
      .map(({ at, ...rest }) => ({ kind: 'atomic' as const, ...rest, fetch: false, ...at })),
  );

  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc
        .record({ op: fc.constantFrom(...ALU_OPS), width, dst: register, operand })
        .map(({ operand, ...rest }) => ({ kind: 'alu' as const, ...rest, ...operand })),
    },
    fc
      .record({ width, dst: register })
      .map(r => ({ kind: 'alu' as const, op: 'neg' as const, ...r, src: undefined, imm: 0 })),
    fc
      .record({
        form: fc.constantFrom(
          { width: 32 as const, from: 8 as const },
          { width: 32 as const, from: 16 as const },
          { width: 64 as const, from: 8 as const },
          { width: 64 as const, from: 16 as const },
          { width: 64 as const, from: 32 as const },
        ),
        dst: register,
        src: register,
      })
      .map(({ form, ...rest }) => ({ kind: 'movsx' as const, ...form, ...rest })),
    fc.record({
      kind: fc.constant('byteswap' as const),
      order: fc.constantFrom('le' as const, 'be' as const, 'swap' as const),
      size: fc.constantFrom(16 as const, 32 as const, 64 as const),
      dst: register,
    }),
    fc.record({ toSpace: fc.constantFrom(0, 1), dst: register, src: register }).map(r => ({
      kind: 'addrSpaceCast' as const,
      ...r,
      fromSpace: 1 - r.toSpace,
    })),
    {
      weight: 3,
      arbitrary: fc
        .record({ size, signed: fc.boolean(), at: place })
        .map(({ size, signed, at }) => ({ kind: 'load' as const, size, signed: signed && size !== 8, ...at })),
    },
    {
      weight: 3,
      arbitrary: fc
        .record({ size, dst: register, offset: int16, operand })
        .map(({ operand, ...rest }) => ({ kind: 'store' as const, ...rest, ...operand })),
    },
    { weight: 3, arbitrary: atomic },
    fc.record({
      kind: fc.constant('packetLoad' as const),
      size: fc.constantFrom(1 as const, 2 as const, 4 as const),
      src: fc.option(register, { nil: undefined }),
      imm: int32,
    }),
    {
      weight: 4,
      arbitrary: fc
        .record({ op: fc.constantFrom(...JUMP_OPS), width, dst: register, operand, offset: int16 })
        .map(({ operand, ...rest }) => ({ kind: 'jump' as const, ...rest, ...operand })),
    },
    fc.record({ kind: fc.constant('goto' as const), offset: int16, long: fc.constant(false) }),
    fc.record({ kind: fc.constant('goto' as const), offset: int32, long: fc.constant(true) }),
    fc.record({ kind: fc.constant('mayGoto' as const), offset: int16 }),
    fc.record({ kind: fc.constant('callHelper' as const), helper: int32 }),
    fc.record({ kind: fc.constant('callSubprogram' as const), offset: int32 }),
    fc.record({ kind: fc.constant('callKfunc' as const), btfId: int32, module: int16 }),
    fc.constant({ kind: 'exit' as const }),
  );
}

const wireReference: fc.Arbitrary<Reference> = fc.oneof(
  fc.record({ type: fc.constant('mapFd' as const), fd: int32 }),
  fc.record({ type: fc.constant('mapFdValue' as const), fd: int32, offset: uint32 }),
  fc.record({ type: fc.constant('btfId' as const), id: int32, fd: int32 }),
  fc.record({ type: fc.constant('function' as const), offset: int32 }),
  fc.record({ type: fc.constant('mapIndex' as const), index: int32 }),
  fc.record({ type: fc.constant('mapIndexValue' as const), index: int32, offset: uint32 }),
);

/** Names of ELF symbols, ordinary ones first; then anything. */
const mapName = fc.oneof(
  fc.constantFrom('counters', '.rodata', '.rodata.str1.1', 'jmp_table', 'll', 's', 'a b', ']', '"', 'r1'),
  fc.string({ minLength: 1, maxLength: 12, unit: 'binary' }),
);
const namedReference: fc.Arbitrary<Reference> = fc.oneof(
  fc.record({ type: fc.constant('map' as const), map: mapName }),
  fc.record({ type: fc.constant('mapValue' as const), map: mapName, offset: uint32 }),
  fc.record({ type: fc.constant('kfunc' as const), name: mapName }),
  fc.record({ type: fc.constant('mapAddress' as const), index: fc.nat() }),
  fc.record({ type: fc.constant('mapValueAddress' as const), index: fc.nat(), offset: uint32 }),
);

function loadImm64(register: fc.Arbitrary<Register>, reference: fc.Arbitrary<Reference>): fc.Arbitrary<LoadImm64> {
  return fc.oneof(
    fc.record({
      kind: fc.constant('loadImm64' as const),
      dst: register,
      value: uint64,
      reference: fc.constant(undefined),
    }),
    fc.record({ kind: fc.constant('loadImm64' as const), dst: register, value: fc.constant(0n), reference }),
  );
}

function program(insn: fc.Arbitrary<Instruction>): fc.Arbitrary<Instruction[]> {
  return fc
    .array(insn, { maxLength: 24 })
    .map(insns => insns.flatMap((i): Instruction[] => (i.kind === 'loadImm64' ? [i, { kind: 'wide' }] : [i])));
}

/** Any instruction that fills one slot and can be encoded. */
export const wireInstruction: fc.Arbitrary<OneSlot> = oneSlot(publicRegister);

/** Up to 24 encodable instructions with arbitrary jump targets, by slot. */
export const wireProgram: fc.Arbitrary<Instruction[]> = program(
  fc.oneof({ weight: 12, arbitrary: wireInstruction }, loadImm64(publicRegister, wireReference)),
);

/** What only Switchyard has: internal instructions. */
const internalInstruction: fc.Arbitrary<InternalInstruction> = fc.oneof(
  uint32.map(imm => ({ kind: 'tailCall' as const, imm })),
  anyRegister.map(dst => ({ kind: 'runContext' as const, dst })),
  fc.constant({ kind: 'loadFence' as const }),
  fc.record({
    kind: fc.constant('aluAddress' as const),
    op: fc.constantFrom('add' as const, 'sub' as const),
    width: fc.constantFrom(32 as const, 64 as const),
    dst: anyRegister,
    reference: fc.record({ type: fc.constant('mapValueAddress' as const), index: fc.nat(), offset: uint32 }),
  }),
  fc.stringMatching(/^[a-z_][a-z0-9_]{0,20}$/).map(routine => ({ kind: 'callRoutine' as const, routine })),
  anyRegister.map(register => ({ kind: 'callIndirect' as const, register })),
  fc.stringMatching(/^[a-z_][a-z0-9_]{0,20}$/).map(service => ({ kind: 'callService' as const, service })),
);

/** Up to 24 instructions of all kinds: internal ones, register AX, references by name, named kernel functions. */
export const anyProgram: fc.Arbitrary<Instruction[]> = program(
  fc.oneof(
    { weight: 12, arbitrary: oneSlot(anyRegister) },
    { weight: 2, arbitrary: internalInstruction },
    loadImm64(anyRegister, fc.oneof(wireReference, namedReference)),
    fc.record({ kind: fc.constant('callKfunc' as const), btfId: int32, module: int16, name: mapName }),
  ),
);
