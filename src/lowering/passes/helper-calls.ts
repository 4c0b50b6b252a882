/**
 * Pass 5: calls of helpers and kernel functions.
 *
 * Reads: facts.helperCalls, map specifications. Writes: calls -> calls of trusted routines; lookups in a known array
 * and bpf_get_smp_processor_id -> their few instructions.
 * Assumes: tail calls (helper 12) are another pass's.
 * Throws: LoweringError `unknown_helper`, `unknown_kfunc`.
 *
 * Lookups are inlined where the map is the same whenever the call is reached; see `array-lookup.ts` for what they become.
 */
import type { Instruction, Register } from '../../isa/instruction.ts';
import { jumpTargets } from '../../isa/jump-targets.ts';
import type { MapSpec } from '../../object/spec.ts';
import type { HelperCallFact } from '../../verifier/facts.ts';
import { keyOffset, keyStore, REACH } from '../../verifier/lookup-keys.ts';
import { AX, alu, goto, loadRunContextField, move32 } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';
import { usedMapIndex } from '../used-maps.ts';
import { arrayLookup, checkedArrayLookup, isInlined, type Key, leave } from './array-lookup.ts';
import { TAIL_CALL_HELPER } from './tail-calls.ts';

const MAP_LOOKUP_ELEM = 1;
const GET_SMP_PROCESSOR_ID = 8;

export function lowerHelperCalls(draft: Draft, input: LoweringInput): Draft {
  const facts = new Map(input.facts.helperCalls.map(fact => [fact.insn, fact]));
  const edits = new Map<number, Edit>();
  const targets = jumpTargets(draft.insns);
  const unused = new Set(draft.unusedArguments);
  draft.insns.forEach((insn, slot) => {
    const origin = draft.origin[slot]!;
    if (insn.kind === 'callHelper' && insn.helper !== TAIL_CALL_HELPER) {
      const fact = facts.get(origin);
      const map = knownArray(insn.helper, fact, input);
      if (map === undefined) edits.set(slot, { code: codeOf(insn.helper, fact, origin, input) });
      else inlineLookup(draft, slot, map, usedMapIndex(input, map.name, origin), fact!, targets, edits, unused);
    } else if (insn.kind === 'callKfunc') {
      edits.set(slot, { code: kfuncCode(insn.name, origin, input) });
    }
  });
  return rewrite({ ...draft, unusedArguments: unused }, edits);
}

function inlineLookup(
  { insns }: Draft,
  slot: number,
  map: MapSpec,
  index: number,
  fact: HelperCallFact,
  targets: ReadonlySet<number>,
  edits: Map<number, Edit>,
  unused: Set<number>,
): void {
  const offset = keyOffset(insns, slot, targets);
  const key = keyOf(insns, slot, offset, fact, targets, edits);
  if (key.kind !== 'pointer') markUnusedArguments(insns, slot, unused);
  const inRange = (key.kind === 'constant' ? key.value : (fact.keyMax ?? Infinity)) < map.maxEntries;
  const lookup = { map, index, key, inRange };
  const check = nullCheck(insns, slot, targets);
  if (check === undefined) {
    edits.set(slot, { code: arrayLookup(lookup) });
    return;
  }
  edits.set(slot, { code: checkedArrayLookup(lookup, check.isNull) });
  edits.set(slot + 1, { code: check.isValue === slot + 2 ? [] : [leave(goto(0), check.isValue)] });
}

/** Where the key is that the call in `call` is given, maybe by an edit of the instruction that stores it. */
function keyOf(
  insns: readonly Instruction[],
  call: number,
  offset: number | undefined,
  fact: HelperCallFact,
  targets: ReadonlySet<number>,
  edits: Map<number, Edit>,
): Key {
  if (fact.constantKey !== undefined) return { kind: 'constant', value: fact.constantKey };
  if (offset === undefined) return { kind: 'pointer' };
  const stored = keyStore(insns, call, targets, offset);
  if (stored === undefined) return { kind: 'stack', offset };
  const { slot, store } = stored;
  if (store.src === undefined) return { kind: 'constant', value: store.imm >>> 0 };
  if (edits.has(slot) || insns.slice(slot, call).some(namesScratch)) return { kind: 'stack', offset };
  edits.set(slot, { code: [store, move32(AX, store.src)] });
  return { kind: 'scratch' };
}

function namesScratch(insn: Instruction): boolean {
  return ('dst' in insn && insn.dst === AX) || ('src' in insn && insn.src === AX);
}

/** r1 to r5: who calls them changes them. */
const isLostInCalls = (register: Register): boolean => register <= 5;

/** Notes the instructions just before the call that only make its arguments: what the call becomes reads none. */
function markUnusedArguments(insns: readonly Instruction[], call: number, unused: Set<number>): void {
  const needed = new Set<Register>();
  const isNeeded = (register: Register) => needed.has(register) || !isLostInCalls(register);
  for (let slot = call - 1; slot >= 0 && call - slot <= REACH; slot--) {
    const insn = insns[slot]!;
    switch (insn.kind) {
      case 'wide':
        continue;
      case 'loadImm64':
        if (isNeeded(insn.dst)) needed.delete(insn.dst);
        else unused.add(slot).add(slot + 1);
        continue;
      case 'alu':
        if (!isNeeded(insn.dst)) unused.add(slot);
        else {
          if (insn.op === 'mov') needed.delete(insn.dst);
          if (insn.src !== undefined) needed.add(insn.src);
        }
        continue;
      case 'load':
        needed.delete(insn.dst);
        needed.add(insn.src);
        continue;
      case 'store':
        needed.add(insn.dst);
        if (insn.src !== undefined) needed.add(insn.src);
        continue;
      default:
        return;
    }
  }
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
): readonly Instruction[] {
  if (helper === GET_SMP_PROCESSOR_ID) return loadRunContextField(0, 'cpu', 4);
  const map = fact?.map === undefined ? undefined : input.maps.get(fact.map);
  const routine = input.helperRoutine(helper, map?.type, input.type);
  if (routine !== undefined) return [{ kind: 'callRoutine', routine }];
  throw new LoweringError(
    'unknown_helper',
    `${input.name}: instruction ${origin} calls helper ${helper}, for which no routine exists`,
    { program: input.name, insn: origin, helper },
  );
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

/** The array that a lookup is in, if it is in the same one whenever it runs. */
function knownArray(helper: number, fact: HelperCallFact | undefined, input: LoweringInput): MapSpec | undefined {
  const map = fact?.map === undefined ? undefined : input.maps.get(fact.map);
  return helper === MAP_LOOKUP_ELEM && map !== undefined && isInlined(map) ? map : undefined;
}
