-- What an object was made as whose size was learned: another one of its name is another object.
ALTER TABLE maint.baselines ADD COLUMN made_as text;
