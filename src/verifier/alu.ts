/**
 * Arithmetic: scalars by the scalar domain, pointers by the kernel's rules (`adjust_ptr_min_max_vals`).
 *
 * A pointer plus a known number moves its fixed offset; plus an unknown one grows its variable part. Packet and raw
 * pointers get a new id then, since what was proved of them held for the old address.
 */
import type { Alu, AluOp, ByteSwap, MovSx } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { needRegister } from './precision.ts';
import {
  isPacketPointer,
  isPointer,
  kindName,
  RAW_SIZE_ID,
  type RegisterState,
  readyToCopy,
  register,
  SUM_32,
  SUM_64,
  scalarRegister,
  sumOf,
  UNKNOWN_SCALAR,
  withFields,
} from './registers.ts';
import {
  alu,
  byteswap,
  constantOfInt,
  constantValue,
  fits,
  isConstant,
  movsx,
  type Scalar,
  truncate,
} from './scalar.ts';
import { refuseLeak, sanitizeMoved, sanitizePointer, sanitizeScalar } from './unprivileged.ts';

const MAX_OFFSET = 1n << 29n;

const SYMBOLS: Readonly<Record<AluOp, string>> = {
  add: '+=',
  sub: '-=',
  mul: '*=',
  div: '/=',
  sdiv: 's/=',
  mod: '%=',
  smod: 's%=',
  or: '|=',
  and: '&=',
  xor: '^=',
  lsh: '<<=',
  rsh: '>>=',
  arsh: 's>>=',
  neg: 'neg',
  mov: '=',
};

const immediate = constantOfInt;

export function executeAlu(a: Analysis, i: Alu): void {
  if (i.op === 'mov') {
    executeMov(a, i);
    return;
  }
  const source = i.src === undefined ? undefined : a.read(i.src);
  const target = a.read(i.dst);
  a.checkWritable(i.dst);
  if (i.op === 'neg') {
    refuseLeak(a, target, `R${i.dst} pointer arithmetic prohibited`);
    a.write(
      i.dst,
      target.kind === 'scalar' ? scalarRegister(alu('neg', i.width, target.value, target.value)) : unknown(i.width),
    );
    return;
  }
  if (source === undefined) checkImmediate(a, i);
  if (a.arena !== undefined && executeArenaAlu(a, i, target, source)) return;
  const operand = source ?? scalarRegister(immediate(i.imm));
  if (isPointer(target) || isPointer(operand)) {
    executePointer(a, i, target, operand);
    return;
  }
  sanitizeScalar(a, i);
  if (shiftsTooFar(a, i, operand.value)) {
    a.write(i.dst, unknown(i.width));
    return;
  }
  const result = scalarRegister(alu(i.op, i.width, target.value, shiftOperand(a, i, operand.value)));
  a.write(i.dst, linkedSum(i, target, operand, result));
}

/** Any arithmetic with an arena pointer gives one: it is confined to the arena when it is used. */
function executeArenaAlu(a: Analysis, i: Alu, target: RegisterState, source: RegisterState | undefined): boolean {
  const onArena = target.kind === 'arena' || source?.kind === 'arena';
  if (i.width === 64 && !a.facts.noteArithmetic(a.insn, onArena))
    a.fail('conflicting_access', 'same insn cannot be used with different pointers', 'EINVAL');
  if (onArena) a.write(i.dst, register('arena'));
  return onArena;
}

const isShift = (i: Alu): boolean => i.op === 'lsh' || i.op === 'rsh' || i.op === 'arsh';

/** An amount in a register that may be out of range: the kernel, where machines differ, counts on no result then. */
function shiftsTooFar(a: Analysis, i: Alu, amount: Scalar): boolean {
  return (
    a.program.type !== 'raw' &&
    i.src !== undefined &&
    isShift(i) &&
    (amount.wide !== undefined || amount.u32max >= i.width)
  );
}

/** A raw program's shift amounts are masked (RFC 9669); in other types one out of range was refused by `checkImmediate`. */
function shiftOperand(a: Analysis, i: Alu, operand: Scalar): Scalar {
  if (i.src !== undefined || a.program.type !== 'raw' || !isShift(i)) return operand;
  return constantOfInt(i.imm & (i.width - 1));
}

function checkImmediate(a: Analysis, i: Alu): void {
  if (a.program.type === 'raw') return;
  if (i.imm === 0 && (i.op === 'div' || i.op === 'sdiv' || i.op === 'mod' || i.op === 'smod'))
    a.fail('invalid_instruction', 'div by zero', 'EINVAL', 'Divide by anything but the constant 0.');
  if (isShift(i) && (i.imm < 0 || i.imm >= i.width))
    a.fail('invalid_instruction', `invalid shift ${i.imm}`, 'EINVAL', `Shift by 0 to ${i.width - 1}.`);
}

/**
 * A scalar plus a constant stays linked to its copies: they differ by that constant. As in the kernel, one constant: a second one ends
 * it, as do numbers that the 32-bit sum would not be known to start from.
 */
function linkedSum(i: Alu, target: RegisterState, operand: RegisterState, result: RegisterState): RegisterState {
  if (target.id === 0 || (i.op !== 'add' && i.op !== 'sub') || i.src === i.dst) return result;
  const amount = amountOf(i.width, operand.value);
  if (amount === undefined) return result;
  let offset = i.op === 'add' ? amount : -amount;
  if (target.id === RAW_SIZE_ID) {
    if (i.width !== 64) return result;
    offset += target.offset;
    return offset === (offset | 0) ? withFields(result, { id: target.id, offset }) : result;
  }
  if (offset !== (offset | 0) || sumOf(target.id) !== 0) return result;
  if (i.width === 32 && !fits(target.value, 4)) return result;
  return withFields(result, { id: target.id | (i.width === 64 ? SUM_64 : SUM_32), offset });
}

/** The constant as int32; undefined if it is none. */
function amountOf(width: 32 | 64, value: Scalar): number | undefined {
  if (width === 32) return value.mask32 === 0 ? value.value32 : undefined;
  if (!isConstant(value)) return undefined;
  const amount = BigInt.asIntN(64, constantValue(value));
  return amount === BigInt.asIntN(32, amount) ? Number(amount) : undefined;
}

const unknown = (width: 32 | 64): RegisterState =>
  width === 64 ? UNKNOWN_SCALAR : scalarRegister(truncate(UNKNOWN_SCALAR.value, 4));

function executeMov(a: Analysis, i: Alu): void {
  a.checkWritable(i.dst);
  if (i.src === undefined) {
    a.write(i.dst, scalarRegister(constantOfInt(i.width === 64 ? i.imm : i.imm >>> 0)));
    return;
  }
  const source = a.read(i.src);
  if (isPointer(source)) {
    if (i.width === 32) refuseLeak(a, source, `R${i.src} partial copy of pointer`);
    a.write(i.dst, i.width === 64 ? source : unknown(32));
    return;
  }
  if (i.width === 64 || fits(source.value, 4)) {
    a.write(i.dst, linkedCopy(a, i.src, source));
    return;
  }
  a.write(i.dst, scalarRegister(truncate(source.value, 4)));
}

/** A copy shares an id with the original, so that what a comparison tells of one is known of both. */
function linkedCopy(a: Analysis, from: number, source: RegisterState): RegisterState {
  const linked = readyToCopy(source, a);
  a.state.registers[from] = linked;
  return linked;
}

export function executeMovSx(a: Analysis, i: MovSx): void {
  const source = a.read(i.src);
  if (isPointer(source)) {
    refuseLeak(a, source, `R${i.src} sign-extension part of pointer`);
    a.write(i.dst, unknown(i.width));
    return;
  }
  // The value is kept if it is not negative in its narrow form; then the copy is as good as a plain one.
  const limit = 1n << BigInt(i.from - 1);
  if (source.value.umax < limit) {
    a.checkWritable(i.dst);
    a.write(i.dst, linkedCopy(a, i.src, source));
    return;
  }
  a.write(i.dst, scalarRegister(movsx(i.width, i.from, source.value)));
}

export function executeByteSwap(a: Analysis, i: ByteSwap): void {
  const target = a.read(i.dst);
  refuseLeak(a, target, `R${i.dst} pointer arithmetic prohibited`);
  a.write(i.dst, isPointer(target) ? UNKNOWN_SCALAR : scalarRegister(byteswap(i.order, i.size, target.value)));
}

function executePointer(a: Analysis, i: Alu, target: RegisterState, operand: RegisterState): void {
  if (isPointer(target) && isPointer(operand)) {
    if (i.op !== 'sub' || a.leaksRefused)
      a.fail('invalid_pointer_arithmetic', `R${i.dst} pointer ${SYMBOLS[i.op]} pointer prohibited`);
    // Of 32 bits too the kernel takes it to have all 64.
    a.write(i.dst, UNKNOWN_SCALAR);
    return;
  }
  const pointer = isPointer(target) ? target : operand;
  const amount = isPointer(target) ? operand : target;
  if (i.width === 32) {
    if (i.op !== 'sub' || a.leaksRefused)
      a.fail(
        'invalid_pointer_arithmetic',
        `R${i.dst} 32-bit pointer arithmetic prohibited`,
        'EACCES',
        'Calculate with pointers in 64 bits.',
      );
    a.write(i.dst, unknown(32));
    return;
  }
  if (pointer.kind === 'untrustedMemory') {
    needRegister(a, pointer === target ? i.src : i.dst);
    // A number plus such a pointer stays a number, as in the kernel (which takes it to be the same number as before).
    a.write(i.dst, pointer === target ? pointer : UNKNOWN_SCALAR);
    return;
  }
  a.write(i.dst, movePointer(a, i, pointer, amount, pointer === target));
}

function checkMovable(a: Analysis, i: Alu, pointer: RegisterState, amount: Scalar): void {
  if (pointer.nullable)
    a.fail(
      'invalid_pointer_arithmetic',
      `R${i.dst} pointer arithmetic on ${kindName(pointer)} prohibited, null-check it first`,
      'EACCES',
      'Compare the pointer with NULL before arithmetic on it.',
    );
  switch (pointer.kind) {
    case 'map':
      if (i.op === 'add' && isConstant(amount) && constantValue(amount) === 0n) return;
      break;
    case 'packetEnd':
    case 'socket':
    case 'sockCommon':
    case 'tcpSocket':
      break;
    case 'rawEnd':
      if (isConstant(amount) && (i.op === 'add' || i.op === 'sub')) return;
      break;
    case 'callback':
      break;
    default:
      return;
  }
  a.fail('invalid_pointer_arithmetic', `R${i.dst} pointer arithmetic on ${kindName(pointer)} prohibited`);
}

/** Offsets beyond ±2^29 are refused early, so that no later sum can overflow. */
function checkSane(a: Analysis, pointer: RegisterState, of: RegisterState): void {
  const offset = of.value;
  const name = kindName(pointer);
  if (isConstant(offset)) {
    const value = BigInt.asIntN(64, constantValue(offset));
    if (value >= MAX_OFFSET || value <= -MAX_OFFSET)
      a.fail('invalid_pointer_arithmetic', `math between ${name} pointer and ${value} is not allowed`, 'EINVAL');
  }
  // Of a number: what was added to the one that it is linked with. The kernel looks at both alike.
  if (of.offset >= Number(MAX_OFFSET) || of.offset <= -Number(MAX_OFFSET))
    a.fail('invalid_pointer_arithmetic', `${name} pointer offset ${of.offset} is not allowed`, 'EINVAL');
  if (offset.smin === -(1n << 63n))
    a.fail(
      'invalid_pointer_arithmetic',
      `math between ${name} pointer and register with unbounded min value is not allowed`,
      'EINVAL',
      'Bound the number (mask it, or compare it as unsigned) before it is added to the pointer.',
    );
  if (offset.smin >= MAX_OFFSET || offset.smin <= -MAX_OFFSET)
    a.fail('invalid_pointer_arithmetic', `value ${offset.smin} makes ${name} pointer be out of bounds`, 'EINVAL');
}

/** Pointers into memory whose bounds are learned by comparison. */
const hasLearnedRange = (r: RegisterState): boolean => isPacketPointer(r) || r.kind === 'raw';

function movePointer(
  a: Analysis,
  i: Alu,
  pointer: RegisterState,
  amountRegister: RegisterState,
  pointerIsTarget: boolean,
): RegisterState {
  const amount = amountRegister.value;
  needRegister(a, pointerIsTarget ? i.src : i.dst);
  checkMovable(a, i, pointer, amount);
  if (i.op !== 'add' && i.op !== 'sub') {
    const bitwise = i.op === 'and' || i.op === 'or' || i.op === 'xor';
    a.fail(
      'invalid_pointer_arithmetic',
      bitwise
        ? `R${i.dst} bitwise operator ${SYMBOLS[i.op]} on pointer prohibited`
        : `R${i.dst} pointer arithmetic with ${SYMBOLS[i.op]} operator prohibited`,
    );
  }
  if (
    i.op === 'add' &&
    pointer.kind === 'raw' &&
    amountRegister.id === RAW_SIZE_ID &&
    isConstant(pointer.value) &&
    !isConstant(amount)
  )
    return register('rawEnd', { offset: pointer.offset + amountRegister.offset });
  checkSane(a, pointer, amountRegister);
  checkSane(a, pointer, pointer);
  const sanitation = sanitizePointer(a, i, pointer, amountRegister, pointerIsTarget);
  if (i.op === 'sub') {
    if (!pointerIsTarget) a.fail('invalid_pointer_arithmetic', `R${i.dst} tried to subtract pointer from scalar`);
    if (pointer.kind === 'stack')
      a.fail('invalid_pointer_arithmetic', `R${i.dst} subtraction from stack pointer prohibited`);
  }
  let moved: RegisterState;
  const step = isConstant(amount) ? BigInt.asIntN(64, constantValue(amount)) : 0n;
  const offset = BigInt(pointer.offset) + (i.op === 'add' ? step : -step);
  if (isConstant(amount) && offset === BigInt.asIntN(32, offset)) {
    // What is behind the packet's end may not be any more once it has moved down.
    const range = pointer.range < 0 && offset < BigInt(pointer.offset) ? 0 : pointer.range;
    moved = withFields(pointer, { offset: Number(offset), range });
  } else {
    const value = alu(i.op, 64, pointer.value, amount);
    moved = withFields(pointer, { value });
    if (hasLearnedRange(pointer)) {
      const lowered = i.op === 'sub' && amount.smin >= 0n;
      moved = withFields(moved, { id: a.newId(), range: lowered ? Math.max(pointer.range, 0) : 0 });
    }
  }
  checkSane(a, moved, moved);
  sanitizeMoved(a, i, moved, sanitation);
  return moved;
}
