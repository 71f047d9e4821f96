"""Old command lines: found in whatever file they stand in, and put in their new form."""

from llmbuilder.migration.commands.call import Call, Launcher, Loop, TranslatedCommand
from llmbuilder.migration.commands.finding import find_calls
from llmbuilder.migration.commands.places import Places, PreparedDataset, ScriptFacts
from llmbuilder.migration.commands.scripts import translate_script
from llmbuilder.migration.commands.translating import translate, translate_all
