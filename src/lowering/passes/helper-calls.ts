/**
 * Pass 5: calls of helpers and kernel functions.
 *
 * Reads: facts.helperCalls, map specifications. Writes: calls -> calls of trusted routines; lookups in a known array
 * and bpf_get_smp_processor_id -> their few instructions.
 * Assumes: tail calls (helper 12) are another pass's.
 * Throws: LoweringError `unknown_helper`, `unknown_kfunc`.
 *
 * An inlined lookup is the kernel's (array_map_gen_lookup), except that the address of the values is a constant: the
 * map is known. With a constant key in range the whole lookup is one constant.
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
  draft.insns.forEach((insn, slot) => {
    const origin = draft.origin[slot]!;
    if (insn.kind === 'callHelper' && insn.helper !== TAIL_CALL_HELPER) {
      edits.set(slot, { code: codeOf(insn.helper, facts.get(origin), origin, input) });
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
): readonly Instruction[] {
  if (helper === GET_SMP_PROCESSOR_ID) return loadRunContextField(0, 'cpu', 4);
  const map = fact?.map === undefined ? undefined : input.maps.get(fact.map);
  if (helper === MAP_LOOKUP_ELEM && map?.type === 'array') {
    return arrayLookup(usedMapIndex(input, map.name, origin), map.maxEntries, map.valueSize, fact?.constantKey);
  }
  const routine = input.helperRoutine(helper, map?.type, input.type);
  if (routine !== undefined) return [{ kind: 'callRoutine', routine }];
  throw new LoweringError(
    'unknown_helper',
    `${input.name}: instruction ${origin} calls helper ${helper}, for which no routine exists`,
    { program: input.name, insn: origin, helper },
  );
}

/** r2 points to the u32 key; r0 = address of the value, or null. Clobbers r1, as any call may. */
function arrayLookup(
  index: number,
  maxEntries: number,
  valueSize: number,
  constantKey: number | undefined,
): readonly Instruction[] {
  // Elements lie at a distance of their size rounded up to 8 (MapHeader.stride).
  const stride = Math.ceil(valueSize / 8) * 8;
  if (constantKey !== undefined && constantKey < maxEntries) {
    return loadReference(0, { type: 'mapValueAddress', index, offset: constantKey * stride });
  }
  const shift = Math.log2(stride);
  return [
    load(4, 0, 2, 0),
    // The comparison is unsigned, in 32 bits: max_entries may lie above 2^31, where a 64-bit immediate would sign-extend.
    { ...jumpIf('ge', 0, maxEntries | 0, 5), width: 32 },
    Number.isInteger(shift) ? alu('lsh', 0, shift) : alu('mul', 0, stride),
    ...loadReference(1, { type: 'mapValueAddress', index, offset: 0 }),
    aluRegister('add', 0, 1),
    goto(1),
    alu('mov', 0, 0),
  ];
}
