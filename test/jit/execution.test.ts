import { x64Platform } from './computer.ts';
import { executionSuite } from './suites/execution.ts';

executionSuite(x64Platform);
