import { executionSuite } from '../jit/suites/execution.ts';
import { arm64Platform } from './emulator.ts';

executionSuite(arm64Platform);
