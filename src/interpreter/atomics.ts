/**
 * Atomic operations on the arena through JS Atomics, so that they hold against native threads and workers that share
 * it. All are sequentially consistent, which is at least what BPF asks for.
 */
import type { Atomic } from '../isa/instruction.ts';
import type { Arena } from '../memory/arena.ts';
import { highHalf, lowHalf, toBigInt } from './int64.ts';

/**
 * @param offset in the arena, checked, a multiple of the access size.
 * @param low,high register halves; read and written as the instruction says.
 */
export function applyAtomic(arena: Arena, insn: Atomic, offset: number, low: Int32Array, high: Int32Array): void {
  if (insn.op === 'loadAcquire') {
    const value = atomicLoad(arena, insn.size, offset);
    low[insn.dst] = lowHalf(value);
    high[insn.dst] = highHalf(value);
  } else if (insn.op === 'storeRelease') {
    atomicStore(arena, insn.size, offset, toBigInt(low[insn.src]!, high[insn.src]!));
  } else if (insn.size === 8) {
    apply64(arena.u64, insn, offset / 8, low, high);
  } else {
    apply32(arena.i32, insn, offset / 4, low, high);
  }
}

function apply32(words: Int32Array, insn: Atomic, index: number, low: Int32Array, high: Int32Array): void {
  const operand = low[insn.src]!;
  const result = insn.op === 'cmpxchg' ? 0 : insn.src;
  const old =
    insn.op === 'cmpxchg'
      ? Atomics.compareExchange(words, index, low[0]!, operand)
      : modify32(words, insn, index, operand);
  if (!insn.fetch) return;
  low[result] = old;
  high[result] = 0;
}

function modify32(words: Int32Array, insn: Atomic, index: number, operand: number): number {
  switch (insn.op) {
    case 'add':
      return Atomics.add(words, index, operand);
    case 'or':
      return Atomics.or(words, index, operand);
    case 'and':
      return Atomics.and(words, index, operand);
    case 'xor':
      return Atomics.xor(words, index, operand);
    default:
      return Atomics.exchange(words, index, operand);
  }
}

function apply64(words: BigUint64Array, insn: Atomic, index: number, low: Int32Array, high: Int32Array): void {
  const operand = toBigInt(low[insn.src]!, high[insn.src]!);
  const result = insn.op === 'cmpxchg' ? 0 : insn.src;
  const old =
    insn.op === 'cmpxchg'
      ? Atomics.compareExchange(words, index, toBigInt(low[0]!, high[0]!), operand)
      : modify64(words, insn, index, operand);
  if (!insn.fetch) return;
  low[result] = lowHalf(old);
  high[result] = highHalf(old);
}

function modify64(words: BigUint64Array, insn: Atomic, index: number, operand: bigint): bigint {
  switch (insn.op) {
    case 'add':
      return Atomics.add(words, index, operand);
    case 'or':
      return Atomics.or(words, index, operand);
    case 'and':
      return Atomics.and(words, index, operand);
    case 'xor':
      return Atomics.xor(words, index, operand);
    default:
      return Atomics.exchange(words, index, operand);
  }
}

function atomicLoad(arena: Arena, size: number, offset: number): bigint {
  switch (size) {
    case 1:
      return BigInt(Atomics.load(arena.bytes, offset));
    case 2:
      return BigInt(Atomics.load(halfwords(arena), offset / 2));
    case 4:
      return BigInt(Atomics.load(arena.i32, offset / 4) >>> 0);
    default:
      return Atomics.load(arena.u64, offset / 8);
  }
}

function atomicStore(arena: Arena, size: number, offset: number, value: bigint): void {
  switch (size) {
    case 1:
      Atomics.store(arena.bytes, offset, Number(value & 0xffn));
      break;
    case 2:
      Atomics.store(halfwords(arena), offset / 2, Number(value & 0xffffn));
      break;
    case 4:
      Atomics.store(arena.i32, offset / 4, lowHalf(value));
      break;
    default:
      Atomics.store(arena.u64, offset / 8, value);
  }
}

const halfwordViews = new WeakMap<Arena, Uint16Array>();

/** The arena has no 16-bit view of its own: only load-acquire and store-release of two bytes want one. */
function halfwords(arena: Arena): Uint16Array {
  let view = halfwordViews.get(arena);
  if (view === undefined) {
    view = new Uint16Array(arena.bytes.buffer, arena.bytes.byteOffset, Math.floor(arena.size / 2));
    halfwordViews.set(arena, view);
  }
  return view;
}
