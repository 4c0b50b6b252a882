/**
 * Lookups in arrays and per-CPU arrays as their few instructions: what the kernel inlines (array_map_gen_lookup,
 * percpu_array_map_gen_lookup), less what is known here.
 *
 * - The address of the values is a constant: the map is known.
 * - Where the program asks next whether it got null, as nearly all do, the check of the bounds has the answer: a key out of
 *   range goes where null goes, and nobody asks again. With a key that is proven to be in range there is neither.
 * - The key need not take the way through memory if the instructions in front of the call say what was stored there: AX keeps it
 *   from the store on. Else it is read through r10, as it was written: processors hand a stored value on at once where both go
 *   through the same register, and take ten cycles else.
 */
import type { Goto, Instruction, Jump, Register } from '../../isa/instruction.ts';
import type { MapSpec } from '../../object/spec.ts';
import { AX, alu, aluRegister, goto, jumpIf, load, loadReference, loadRunContextField } from '../build.ts';
import type { JumpOut } from '../rewrite.ts';

/** Where the u32 key of a lookup is. */
export type Key =
  | { readonly kind: 'constant'; readonly value: number }
  /** In AX, with a clear upper half. */
  | { readonly kind: 'scratch' }
  /** At r10 + offset. */
  | { readonly kind: 'stack'; readonly offset: number }
  /** Where r2 points to. */
  | { readonly kind: 'pointer' };

export interface ArrayLookup {
  /** An array or a per-CPU array, and its index among the used maps. */
  readonly map: MapSpec;
  readonly index: number;
  readonly key: Key;
  /** The key is below max_entries whenever the call is reached. */
  readonly inRange: boolean;
}

/** Runs of elements of one CPU each begin on a cache line. */
const LINE = 64;

/** Elements lie at a distance of their size rounded up to 8 (MapHeader.stride). */
const strideOf = ({ valueSize }: MapSpec): number => Math.ceil(valueSize / 8) * 8;
const cpuStrideOf = (map: MapSpec): number => Math.ceil((strideOf(map) * map.maxEntries) / LINE) * LINE;

/** Can a lookup in the map be inlined? */
export function isInlined(map: MapSpec): boolean {
  if (map.type === 'percpu_array') return cpuStrideOf(map) < 0x8000_0000;
  return map.type === 'array';
}

export const leave = (insn: Jump | Goto, to: number): JumpOut => ({ kind: 'jumpOut', insn, to });

/** The comparison is unsigned, in 32 bits: max_entries may lie above 2^31, where a 64-bit immediate would sign-extend. */
const ifOutOfRange = (key: Register, { maxEntries }: MapSpec, offset: number): Jump => ({
  ...jumpIf('ge', key, maxEntries | 0, offset),
  width: 32,
});

/** A key in a register that may be changed, with a clear upper half. */
interface LoadedKey {
  readonly code: readonly Instruction[];
  readonly register: Register;
}

function loadKey(key: Exclude<Key, { kind: 'constant' }>, map: MapSpec): LoadedKey {
  switch (key.kind) {
    case 'scratch':
      // Which CPU it is is found by way of AX.
      return map.type === 'percpu_array'
        ? { code: [aluRegister('mov', 1, AX)], register: 1 }
        : { code: [], register: AX };
    case 'stack':
      return { code: [load(4, 1, 10, key.offset)], register: 1 };
    case 'pointer':
      return { code: [load(4, 1, 2, 0)], register: 1 };
  }
}

/** Makes the distance of an element from the first of its index. */
function scale(register: Register, map: MapSpec): Instruction {
  const shift = Math.log2(strideOf(map));
  return Number.isInteger(shift) ? alu('lsh', register, shift) : alu('mul', register, strideOf(map));
}

/** Adds the distance of this CPU's elements from the first CPU's to r0. Changes `free`. */
function atThisCpu(map: MapSpec, free: Register): readonly Instruction[] {
  if (map.type !== 'percpu_array') return [];
  return [...loadRunContextField(free, 'cpu', 4), alu('mul', free, cpuStrideOf(map)), aluRegister('add', 0, free)];
}

const address = ({ index }: ArrayLookup, register: Register, offset = 0): readonly Instruction[] =>
  loadReference(register, { type: 'mapValueAddress', index, offset });

/** r0 = address of the value that the key leads to. Clobbers r1, r2 and AX. */
const element = (lookup: ArrayLookup, key: LoadedKey): readonly Instruction[] => [
  ...address(lookup, 0),
  ...atThisCpu(lookup.map, 2),
  scale(key.register, lookup.map),
  aluRegister('add', 0, key.register),
];

/** r0 = address of the value of a key that is in range. Clobbers r1, r2 and AX, as any call may. */
function certainLookup(lookup: ArrayLookup): readonly Instruction[] {
  const { map, key } = lookup;
  if (key.kind === 'constant') return [...address(lookup, 0, key.value * strideOf(map)), ...atThisCpu(map, 1)];
  const loaded = loadKey(key, map);
  return [...loaded.code, ...element(lookup, loaded)];
}

/** r0 = address of the value, or null. Clobbers r1, r2 and AX, as any call may. */
export function arrayLookup(lookup: ArrayLookup): readonly Instruction[] {
  const { map, key, inRange } = lookup;
  if (inRange) return certainLookup(lookup);
  if (key.kind === 'constant') return [alu('mov', 0, 0)];
  const loaded = loadKey(key, map);
  const found = element(lookup, loaded);
  return [...loaded.code, alu('mov', 0, 0), ifOutOfRange(loaded.register, map, found.length), ...found];
}

/** The same, with a check for null in it: goes on with the address in r0, or to `isNull` with 0 there. */
export function checkedArrayLookup(lookup: ArrayLookup, isNull: number): readonly (Instruction | JumpOut)[] {
  const { map, key, inRange } = lookup;
  if (inRange) return certainLookup(lookup);
  if (key.kind === 'constant') return [alu('mov', 0, 0), leave(goto(0), isNull)];
  const loaded = loadKey(key, map);
  return [
    ...loaded.code,
    alu('mov', 0, 0),
    leave(ifOutOfRange(loaded.register, map, 0), isNull),
    ...element(lookup, loaded),
  ];
}
