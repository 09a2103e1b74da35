"""Tasks: how a row becomes a request, and how its answer is read. Imports input.

request         one request, and the line that brings it
result          what became of one
tasks           rows that are requests; a prompt filled in with columns
classification  labels, and answers in a form
prompt          the messages about a row
labels          the labels to choose from
answer_schema   the form of an answer
few_shot        examples to show
content         what is asked about a row, as a digest that names it
text_column     which column is the text
messages        what a user says: text, images, a conversation
images          images that a column names
confidence      how sure the model was of a label
"""
