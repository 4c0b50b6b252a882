/**
 * Pass 5: calls of helpers and kernel functions.
 *
 * Reads: facts.helperCalls, map specifications. Writes: calls -> calls of trusted routines; lookups in a known array
 * and bpf_get_smp_processor_id -> their few instructions.
 * Assumes: tail calls (helper 12) are another pass's.
 * Throws: LoweringError `unknown_helper`, `unknown_kfunc`.
 *
 * An inlined lookup is the kernel's (array_map_gen_lookup), except that the address of the values is a constant: the
 * map is known. With a constant key in range the whole lookup is one constant. A key that was just written to the stack is
 * read through r10, as it was written: processors hand a stored value on at once where both go through the same register, and
 * take ten cycles else.
 */
import type { Instruction } from '../../isa/instruction.ts';
import type { HelperCallFact } from '../../verifier/facts.ts';
import { alu, aluRegister, goto, jumpIf, load, loadReference, loadRunContextField } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';
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
      edits.set(slot, {
        code: codeOf(insn.helper, facts.get(origin), origin, input, stackKey(draft.insns, slot, targets)),
      });
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
  const map = fact?.map === undefined ? undefined : input.maps.get(fact.map);
  if (helper === MAP_LOOKUP_ELEM && map?.type === 'array') {
    return arrayLookup(usedMapIndex(input, map.name, origin), map.maxEntries, map.valueSize, fact?.constantKey, stack);
  }
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

/** r2 points to the u32 key, which lies at r10 + `stack` if that is known; r0 = address of the value, or null. Clobbers r1, as any call may. */
function arrayLookup(
  index: number,
  maxEntries: number,
  valueSize: number,
  constantKey: number | undefined,
  stack: number | undefined,
): readonly Instruction[] {
  // Elements lie at a distance of their size rounded up to 8 (MapHeader.stride).
  const stride = Math.ceil(valueSize / 8) * 8;
  if (constantKey !== undefined && constantKey < maxEntries) {
    return loadReference(0, { type: 'mapValueAddress', index, offset: constantKey * stride });
  }
  const shift = Math.log2(stride);
  return [
    stack === undefined ? load(4, 0, 2, 0) : load(4, 0, 10, stack),
    // The comparison is unsigned, in 32 bits: max_entries may lie above 2^31, where a 64-bit immediate would sign-extend.
    { ...jumpIf('ge', 0, maxEntries | 0, 5), width: 32 },
    Number.isInteger(shift) ? alu('lsh', 0, shift) : alu('mul', 0, stride),
    ...loadReference(1, { type: 'mapValueAddress', index, offset: 0 }),
    aluRegister('add', 0, 1),
    goto(1),
    alu('mov', 0, 0),
  ];
}
