/**
 * Pass 5: calls of helpers and kernel functions.
 *
 * Reads: facts.helperCalls, map specifications. Writes: calls -> calls of trusted routines; lookups in a known array
 * and bpf_get_smp_processor_id -> their few instructions.
 * Assumes: tail calls (helper 12) are another pass's.
 * Throws: LoweringError `unknown_helper`, `unknown_kfunc`.
 *
 * An inlined lookup is the kernel's (array_map_gen_lookup), except that the address of the values is a constant: the
 * map is known. With a constant key in range the whole lookup is one constant. Where the program asks next whether it got
 * null, as nearly all do, the check of the bounds has the answer: a key out of range goes where null goes, and nobody asks
 * again. A key that was just written to the stack is read through r10, as it was written: processors hand a stored value
 * on at once where both go through the same register, and take ten cycles else.
 */
import type { Goto, Instruction, Jump, Register } from '../../isa/instruction.ts';
import type { MapSpec } from '../../object/spec.ts';
import type { HelperCallFact } from '../../verifier/facts.ts';
import { alu, aluRegister, goto, jumpIf, load, loadReference, loadRunContextField } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, type JumpOut, rewrite } from '../rewrite.ts';
import { usedMapIndex } from '../used-maps.ts';
import { TAIL_CALL_HELPER } from './tail-calls.ts';

const MAP_LOOKUP_ELEM = 1;
const GET_SMP_PROCESSOR_ID = 8;

export function lowerHelperCalls(draft: Draft, input: LoweringInput): Draft {
  const facts = new Map(input.facts.helperCalls.map(fact => [fact.insn, fact]));
  const edits = new Map<number, Edit>();
  const targets = jumpTargets(draft.insns);
  draft.insns.forEach((insn, slot) => {
    const origin = draft.origin[slot]!;
    if (insn.kind === 'callHelper' && insn.helper !== TAIL_CALL_HELPER) {
      const fact = facts.get(origin);
      const stack = stackKey(draft.insns, slot, targets);
      const check = nullCheck(draft.insns, slot, targets);
      const array = knownArray(insn.helper, fact, input);
      if (array !== undefined && check !== undefined && !inRange(fact, array)) {
        const index = usedMapIndex(input, array.name, origin);
        edits.set(slot, { code: checkedArrayLookup(index, array, stack, check.isNull) });
        edits.set(slot + 1, { code: check.isValue === slot + 2 ? [] : [leave(goto(0), check.isValue)] });
      } else edits.set(slot, { code: codeOf(insn.helper, fact, origin, input, stack) });
    } else if (insn.kind === 'callKfunc') {
      edits.set(slot, { code: kfuncCode(insn.name, origin, input) });
    }
  });
  return rewrite(draft, edits);
}

function kfuncCode(name: string | undefined, origin: number, input: LoweringInput): readonly Instruction[] {
  const routine = name === undefined ? undefined : input.kfuncRoutine?.(name, input.type);
  if (routine !== undefined) return routine === '' ? [alu('mov', 0, 0)] : [{ kind: 'callRoutine', routine }];
  throw new LoweringError(
    'unknown_kfunc',
    `${input.name}: instruction ${origin} calls kernel function ${name ?? 'without a name'}, for which no routine exists`,
    { program: input.name, insn: origin, kfunc: name },
  );
}

function codeOf(
  helper: number,
  fact: HelperCallFact | undefined,
  origin: number,
  input: LoweringInput,
  stack: number | undefined,
): readonly Instruction[] {
  if (helper === GET_SMP_PROCESSOR_ID) return loadRunContextField(0, 'cpu', 4);
  const array = knownArray(helper, fact, input);
  if (array !== undefined) return arrayLookup(usedMapIndex(input, array.name, origin), array, fact, stack);
  const map = fact?.map === undefined ? undefined : input.maps.get(fact.map);
  const routine = input.helperRoutine(helper, map?.type, input.type);
  if (routine !== undefined) return [{ kind: 'callRoutine', routine }];
  throw new LoweringError(
    'unknown_helper',
    `${input.name}: instruction ${origin} calls helper ${helper}, for which no routine exists`,
    { program: input.name, insn: origin, helper },
  );
}

function jumpTargets(insns: readonly Instruction[]): ReadonlySet<number> {
  const targets = new Set<number>();
  for (const [slot, insn] of insns.entries()) {
    if (insn.kind === 'jump' || insn.kind === 'goto' || insn.kind === 'mayGoto') targets.add(slot + 1 + insn.offset);
  }
  return targets;
}

/** Instructions in front of a call that are looked at. */
const REACH = 8;

/** Where r2 points to below r10 at the call in `slot`, if the instructions that run just before it say so. */
function stackKey(insns: readonly Instruction[], slot: number, targets: ReadonlySet<number>): number | undefined {
  let offset = 0;
  for (let at = slot - 1; at >= 0 && slot - at <= REACH; at--) {
    // Who jumps behind this instruction brings another r2.
    if (targets.has(at + 1)) return undefined;
    const insn = insns[at]!;
    switch (insn.kind) {
      case 'wide':
      case 'store':
        continue;
      case 'load':
      case 'loadImm64':
        if (insn.dst === 2) return undefined;
        continue;
      case 'alu':
        if (insn.dst !== 2) continue;
        if (insn.width !== 64) return undefined;
        if (insn.op === 'mov' && insn.src === 10) return offset;
        if (insn.op !== 'add' || insn.src !== undefined) return undefined;
        offset += insn.imm;
        continue;
      default:
        return undefined;
    }
  }
  return undefined;
}

/** Where a program goes by what a lookup gave: slots. */
interface NullCheck {
  readonly isNull: number;
  readonly isValue: number;
}

/** What the instruction behind the call in `slot` does if it is a check for null, and only the call leads to it. */
function nullCheck(insns: readonly Instruction[], slot: number, targets: ReadonlySet<number>): NullCheck | undefined {
  const insn = insns[slot + 1];
  if (insn?.kind !== 'jump' || insn.dst !== 0 || insn.width !== 64 || targets.has(slot + 1)) return undefined;
  if (insn.src !== undefined || insn.imm !== 0) return undefined;
  const [behind, target] = [slot + 2, slot + 2 + insn.offset];
  if (insn.op === 'eq') return { isNull: target, isValue: behind };
  return insn.op === 'ne' ? { isNull: behind, isValue: target } : undefined;
}

const leave = (insn: Jump | Goto, to: number): JumpOut => ({ kind: 'jumpOut', insn, to });

/** The array that a lookup is in, if it is in the same one whenever it runs. */
function knownArray(helper: number, fact: HelperCallFact | undefined, input: LoweringInput): MapSpec | undefined {
  const map = fact?.map === undefined ? undefined : input.maps.get(fact.map);
  return helper === MAP_LOOKUP_ELEM && map?.type === 'array' ? map : undefined;
}

const inRange = (fact: HelperCallFact | undefined, { maxEntries }: MapSpec): boolean =>
  fact?.constantKey !== undefined && fact.constantKey < maxEntries;

/** Elements lie at a distance of their size rounded up to 8 (MapHeader.stride). */
const strideOf = ({ valueSize }: MapSpec): number => Math.ceil(valueSize / 8) * 8;

/** The comparison is unsigned, in 32 bits: max_entries may lie above 2^31, where a 64-bit immediate would sign-extend. */
const ifOutOfRange = (key: Register, { maxEntries }: MapSpec, offset: number): Jump => ({
  ...jumpIf('ge', key, maxEntries | 0, offset),
  width: 32,
});

/** Makes the distance of an element from the first of its index. */
function scale(register: Register, array: MapSpec): Instruction {
  const shift = Math.log2(strideOf(array));
  return Number.isInteger(shift) ? alu('lsh', register, shift) : alu('mul', register, strideOf(array));
}

/** r2 points to the u32 key, which lies at r10 + `stack` if that is known. */
const loadKey = (register: Register, stack: number | undefined): Instruction =>
  stack === undefined ? load(4, register, 2, 0) : load(4, register, 10, stack);

/** r0 = address of the value, or null. Clobbers r1, as any call may. */
function arrayLookup(
  index: number,
  array: MapSpec,
  fact: HelperCallFact | undefined,
  stack: number | undefined,
): readonly Instruction[] {
  if (inRange(fact, array)) {
    return loadReference(0, { type: 'mapValueAddress', index, offset: fact!.constantKey! * strideOf(array) });
  }
  return [
    loadKey(0, stack),
    ifOutOfRange(0, array, 5),
    scale(0, array),
    ...loadReference(1, { type: 'mapValueAddress', index, offset: 0 }),
    aluRegister('add', 0, 1),
    goto(1),
    alu('mov', 0, 0),
  ];
}

/** The same, with a check for null in it: goes on with the address in r0, or to `isNull` with 0 there. */
function checkedArrayLookup(
  index: number,
  array: MapSpec,
  stack: number | undefined,
  isNull: number,
): readonly (Instruction | JumpOut)[] {
  return [
    loadKey(1, stack),
    alu('mov', 0, 0),
    leave(ifOutOfRange(1, array, 0), isNull),
    ...loadReference(0, { type: 'mapValueAddress', index, offset: 0 }),
    scale(1, array),
    aluRegister('add', 0, 1),
  ];
}
